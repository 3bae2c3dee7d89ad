// SPDX-License-Identifier: Apache-2.0
/// The parameters of one Unit on one rank: gathering, freeing, reducing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "param_block.h"
#include "step_state.h"

namespace veomni::parallel {

/// Calls nest: a unit may be used several times at once. Frees and gathers act on the first and the
/// last.
class UnitShards {
 public:
  UnitShards(nn::Unit& unit, ShardGroups groups, const FullyShardOptions& options,
             std::shared_ptr<StepState> state);

  StepState& state() { return *state_; }
  /// Whether anything in the unit or in units inside it trains.
  bool anything_trains() const;

  /// Full parameters are in value() until as many drops.
  void gather();
  void drop();
  bool is_gathered() const { return live_ > 0; }

  /// The two halves of a gather, and its reverse; for GatherOrder.
  void start_gather();
  void finish_gather();
  void free_values();
  bool prefetch() const { return options_.prefetch; }
  void count_prefetch() { ++state_->stats.num_prefetches; }

  /// Forwards that may still go backward.
  void begin_use() { ++uses_; }
  void end_use() { --uses_; }

  /// Around the backward of one use; the last end_backward starts the sums of gradients that end up
  /// in Parameter::grad().
  void begin_backward();
  void end_backward();

  /// Starts the sums of what earlier passes deferred and this one did not reach.
  void sum_deferred();
  /// Between micro-batches, where parameters are not resharded after backward.
  void keep_or_stop_keeping();
  void stop_keeping();

 private:
  /// A parameter that is whole on every rank.
  struct Whole {
    nn::Parameter parameter;
    torch::Tensor prior;  ///< summed earlier, kept aside while value().grad() collects
  };

  void make_blocks(nn::Unit& unit);
  torch::ScalarType travel_dtype(torch::ScalarType sum_dtype) const;
  void fill_missing_gradients();
  void reduce_blocks(Reduction& reduction, std::vector<std::function<void()>>& stores);
  void store_block(ParamBlock& block, torch::Tensor sums, bool last);
  std::vector<WholeGradient> take_whole();
  void sum_whole(std::vector<WorkPtr>& works, std::vector<std::function<void()>>& stores);

  std::string name_;
  ShardGroups groups_;
  FullyShardOptions options_;
  std::shared_ptr<StepState> state_;
  std::vector<ParamBlock> blocks_;
  std::vector<Whole> whole_;
  std::vector<nn::Parameter> subtree_;
  std::vector<WorkPtr> gathering_;
  int live_ = 0, in_backward_ = 0, uses_ = 0;
  int64_t gathered_bytes_ = 0;
  bool whole_deferred_ = false;  // value().grad() of whole_ holds passes that were not summed
  bool kept_ = false;
};

}  // namespace veomni::parallel
