// SPDX-License-Identifier: Apache-2.0
/// `veomni train --profile`: one rank's part.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "profile/profile_table.h"
#include "profile/trace_file.h"
#include "veomni/base/trace.h"
#include "veomni/comm/communicator.h"
#include "veomni/nn/module.h"
#include "veomni/train/train.h"

namespace veomni::train {

/// The steps to profile of a run that has done `done` of `total`: those asked for, or the fifth to the seventh that it does
/// (its last three where it does fewer). None if nothing is left to do.
/// @throws ConfigError if steps that were asked for are not among those to come
std::optional<StepRange> steps_to_profile(const std::optional<StepRange>& asked, int64_t done,
                                          int64_t total);

/// Records the steps of a range and writes <directory>/rank_K.json as they end, then <directory>/summary.txt.
class Profiler {
 public:
  /// Attaches to the units of `model`. Collective: the ranks agree on time 0, rank 0 removes what an earlier profile left.
  /// @throws veomni::Error if the files cannot be written
  Profiler(nn::Module& model, StepRange steps, std::string directory, Communicator& world);
  /// Stops recording; makes no collective.
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  /// Around every step, profiled or not. `step` counts from 1.
  void begin_step(int64_t step);
  void end_step();

  /// Collective, once, after the last step: compares the ranks; rank 0 prints and writes the summary.
  void finish();

 private:
  void stop();

  StepRange steps_;
  std::string directory_;
  Communicator& world_;
  std::unique_ptr<TraceFile> file_;
  std::optional<trace::Span> step_;
  bool recording_ = false;
  ProfileTable table_;
};

}  // namespace veomni::train
