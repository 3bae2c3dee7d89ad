// SPDX-License-Identifier: Apache-2.0
/// The parameters of one Unit on one rank: gathering, freeing, reducing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "veomni/parallel/fully_shard.h"

namespace veomni::parallel {

/// Calls nest: a unit may be used several times at once. Frees and gathers act on the first and the
/// last.
class UnitShards {
 public:
  UnitShards(nn::Unit& unit, std::shared_ptr<Communicator> group, const FullyShardOptions& options,
             std::shared_ptr<ShardStats> stats);

  /// Whether anything in the unit or in units inside it trains.
  bool anything_trains() const;

  /// Full parameters are in value() until as many drops.
  void gather();
  void drop();

  /// Around the backward of one use; the last end_backward sums gradients over the group and adds
  /// them to Parameter::grad().
  void begin_backward();
  void end_backward();

 private:
  struct Entry {
    nn::Parameter parameter;
    bool sharded = false;
    /// Gradient of earlier micro-batches, kept aside while value().grad() collects this one's.
    torch::Tensor prior;

    int64_t chunk_numel(int world) const;  ///< elements of one rank's block, padding included
  };

  void collect(bool& has_storage);
  void separate_value(Entry& entry) const;
  void free_values();
  void reduce();
  torch::Tensor take_gradient(Entry& entry) const;
  torch::Tensor padded(const Entry& entry, const torch::Tensor& gradient) const;
  void store_gradient(Entry& entry, torch::Tensor rows) const;

  std::string name_;
  std::shared_ptr<Communicator> group_;
  torch::ScalarType reduce_dtype_;
  std::shared_ptr<ShardStats> stats_;
  std::vector<Entry> entries_;
  std::vector<nn::Parameter> subtree_;
  int live_ = 0;
  int in_backward_ = 0;
  int64_t gathered_bytes_ = 0;
};

}  // namespace veomni::parallel
