// SPDX-License-Identifier: Apache-2.0
/// What a step makes of its batches: losses, each averaged over its own count of the whole step.
#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <string>

#include "veomni/data/collator.h"
#include "veomni/model/omni_model.h"
#include "veomni/train/recipe.h"

namespace veomni::train {

/// By loss name. Every rank has the same names.
using LossValues = std::map<std::string, double>;

class Objective {
 public:
  struct Term {
    torch::Tensor total;  ///< 0-d, with graph: this micro-batch's part of the step's weighted loss
    LossValues
        values;  ///< its parts of the step's mean losses; these SUM over micro-batches and ranks
  };
  virtual ~Objective() = default;

  /// What this micro-batch adds to each loss's count.
  virtual LossValues counts(const data::Batch& batch) const = 0;
  /// @param step_counts  counts of the whole step, over all ranks and micro-batches; a loss that counts nothing is 0
  virtual Term forward(const data::Batch& batch, const LossValues& step_counts, int64_t step) = 0;
  /// The step's loss of its mean losses.
  virtual double total(const LossValues& values) const = 0;
  /// FLOPs of forward and backward.
  virtual double flops(const data::Batch& batch) const = 0;
};

/// Text and media tokens of a model with a foundation; or, without one, the tokenizer of its only decoder.
/// @throws ConfigError for loss names or weights that do not fit the model
std::unique_ptr<Objective> make_objective(const Recipe& recipe, model::OmniModel& model);

}  // namespace veomni::train
