// SPDX-License-Identifier: Apache-2.0
/// `veomni train` and `veomni eval`: whole jobs, from a recipe to files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "veomni/train/recipe.h"

namespace veomni::train {

/// Optimizer steps, both ends included, counted from 1 as in metrics.jsonl.
struct StepRange {
  int64_t first = 0, last = 0;

  bool operator==(const StepRange&) const = default;
};
/// "5..7". @throws ConfigError for anything else
StepRange parse_steps(const std::string& text);

struct TrainFlags {
  bool print_plan = false;  ///< show how the model is spread, and stop
  bool check_data = false;  ///< read one pass of every source, report, and stop
  bool profile = false;     ///< trace some steps into <output>/profile/ (docs/profile.md)
  std::optional<StepRange> profile_steps = std::nullopt;  ///< which; none: 5 to 7 of this run
};

/// Runs the job and writes below recipe.output:
///   recipe.yaml       the recipe with every default filled in
///   metrics.jsonl     a line a step
///   events.out.*      the same for TensorBoard
///   checkpoints/      step_00000100/, see docs/formats/checkpoint.md
///   hf/               the trained model, as transformers opens it
///   eval.json         the final evaluation
///   profile/          with flags.profile: rank_K.json, summary.txt
///   report.html       curves, table, samples; opens with no network
/// @throws ConfigError for the user's mistakes, before any of these is written
void run_train(const Recipe& recipe, const TrainFlags& flags = {});

/// Loads a step directory or a Hugging Face one into the recipe's model and prints (and writes to `out`) the table
/// of its eval section.
void run_eval(const Recipe& recipe, const std::string& checkpoint, const std::string& out);

}  // namespace veomni::train
