// SPDX-License-Identifier: Apache-2.0
/// What the units of one model share on one rank.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "gather_order.h"
#include "veomni/parallel/fully_shard.h"
#include "whole_gradients.h"

namespace veomni::parallel {

/// Sums under way and what becomes of them.
struct Reduction {
  const UnitShards* unit = nullptr;
  std::vector<torch::Tensor> inputs;  ///< must live until the works are done
  std::vector<WorkPtr> works;
  std::function<void()> store;

  void finish();
};

class StepState : public std::enable_shared_from_this<StepState> {
 public:
  ShardStats stats;
  GatherOrder order;
  GradientBuckets buckets;
  bool deferring = false;

  void add(UnitShards* unit) { units_.push_back(unit); }

  /// At the start of a unit's backward: has the end of the pass call finish_backward.
  void begin_backward();

  /// Waits for the sums under way, if there are any: at most one unit's gradients are in buffers beside
  /// the unit that computes.
  void finish_pending();
  void set_pending(Reduction reduction);
  /// Waits if the sums under way are this unit's.
  void finish_unit(const UnitShards* unit);
  /// Sums over replicas, waited for at the end of the pass.
  void push_replica_sum(Reduction reduction);

 private:
  void finish_backward();

  std::vector<UnitShards*> units_;
  std::vector<Reduction> pending_, replica_sums_;  // pending_: none or one
  bool in_backward_ = false;
};

}  // namespace veomni::parallel
