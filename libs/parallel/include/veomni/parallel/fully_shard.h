// SPDX-License-Identifier: Apache-2.0
/// Spreads the parameters of a tree of Units over ranks: sharded by rows (fsdp2) or as one flat
/// buffer a unit (fsdp1), with or without replicas (hsdp), or whole on every rank (replicate, ddp).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>

#include "veomni/comm/communicator.h"
#include "veomni/nn/module.h"
#include "veomni/nn/unit.h"

namespace veomni::parallel {

/// What a rank keeps of a unit's parameters between uses.
enum class Layout {
  kRows,   ///< some rows of every parameter; a scalar is whole (fsdp2)
  kFlat,   ///< a range of all parameters end to end, wherever it begins and ends (fsdp1)
  kWhole,  ///< everything (replicate, ddp)
};

/// The ranks among which a unit is spread: replicate x shard.
struct ShardGroups {
  std::shared_ptr<Communicator> shard;      ///< share out one copy of the parameters
  std::shared_ptr<Communicator> replicate;  ///< hold the same part; may be of size 1
  std::shared_ptr<Communicator> all;        ///< both together

  /// No replicas.
  static ShardGroups over(const std::shared_ptr<Communicator>& group);
};

struct FullyShardOptions {
  Layout layout = Layout::kRows;
  /// Free a unit's full parameters after its forward and gather them again in its backward. A root
  /// unit (one inside no other) keeps them from its forward to its backward in any case.
  bool reshard_after_forward = true;
  /// false: under DeferGradientSync, keep them from one micro-batch's backward to the next's.
  bool reshard_after_backward = true;
  /// Start a unit's gather while the unit before it runs, in the order of the pass before. At most
  /// one is started ahead.
  bool prefetch = true;
  /// Whole parameters: sum gradients in buckets, as soon as they are complete, while backward goes
  /// on (ddp). false: unit by unit, each waited for (replicate).
  bool bucketed = false;
  int64_t bucket_bytes = int64_t{25} << 20;  ///< a bucket is summed once it holds so many bytes
  /// Dtype in which gradients travel; Undefined: max(fp32, the parameter's), in which sums are
  /// accumulated and stored either way, and travel between replicas.
  torch::ScalarType reduce_dtype = torch::ScalarType::Undefined;
};

/// What the units of one rank did; for tests, logs and `--print-plan`.
struct ShardStats {
  int64_t gathered_bytes = 0;  ///< full parameters in memory now, beside the shards
  int64_t peak_gathered_bytes = 0;
  int64_t num_gathers = 0;       ///< times a unit's parameters were collected
  int64_t num_prefetches = 0;    ///< of those, started while another unit ran
  int64_t num_reduces = 0;       ///< times a unit's gradients were summed over ranks
  int64_t num_replica_sums = 0;  ///< buffers summed over replicas
  int64_t num_buckets = 0;       ///< buckets summed (ddp)
};

/// What the units of one model share on one rank: counters, the order of their gathers, sums under
/// way. Opaque.
class StepState;
std::shared_ptr<StepState> make_step_state();
const ShardStats& stats_of(const StepState& state);

/// While it lives, what a backward pass adds to gradients is not summed over replicas (hsdp), or over
/// any ranks where parameters are whole (replicate, ddp); the first backward that ends without one
/// sums everything since. Around all but the last micro-batch of a step. Sharded gradients are
/// reduced within `shard` every time, or they would not fit.
///
/// Until then Parameter::grad() does not hold these parts. Every rank must defer the same passes.
class DeferGradientSync {
 public:
  explicit DeferGradientSync(std::shared_ptr<StepState> state);
  ~DeferGradientSync();
  DeferGradientSync(const DeferGradientSync&) = delete;
  DeferGradientSync& operator=(const DeferGradientSync&) = delete;

 private:
  std::shared_ptr<StepState> state_;
};

/// Attaches an interceptor at Stage::kShard to every Unit of `root`'s tree and sets every
/// parameter's ShardSpec. Call it while the tree is on meta, then nn::materialize: each rank
/// allocates and loads only its part.
///
/// From then on:
///   - forward gathers a unit's parameters into value(), runs it, and frees them again if so asked;
///   - backward gathers them again before the unit's backward and, once all its gradients are
///     there, sums them over the ranks. When backward() returns, Parameter::grad() has grown by the
///     SUM: this rank's part, over micro-batches, in max(fp32, dtype). A gradient that never came
///     counts as zero, so that all ranks always make the same calls and every trainable parameter
///     has a gradient;
///   - a sum is waited for when the next unit's begins, or at the end of the backward pass;
///   - frozen parameters have no gradient and are not reduced; they are gathered in backward where
///     gradients pass;
///   - a unit in which nothing trains and into which no gradient-needing tensor goes costs nothing
///     in backward.
/// One rank: nothing is copied, freed or reduced.
///
/// Every rank must run the same units in the same order, forward and backward, whatever its data. A
/// pass that differs from the one before is legal; it gathers without starting ahead.
///
/// @throws ConfigError for a parameter outside every Unit or inside two
/// @throws veomni::Error if a unit has a kShard interceptor already
std::shared_ptr<StepState> fully_shard(nn::Module& root, const ShardGroups& groups,
                                       const FullyShardOptions& options = {});

/// One unit of the above with its own options. The caller sees to parameters outside units.
void shard_unit(nn::Unit& unit, const ShardGroups& groups, const FullyShardOptions& options,
                std::shared_ptr<StepState> state);

/// @throws ConfigError for a parameter of `root`'s tree outside every Unit or inside two
void check_units_own_parameters(nn::Module& root);

/// Whether the parameter is shared out over a group (though one rank may own all of it).
bool is_sharded(const nn::Parameter& parameter);

/// The whole tensor on every rank, bit by bit, in max(fp32, dtype). `group`: all ranks over which any
/// part of the model is spread (ShardGroups::all), whatever this parameter's layout. Every rank must
/// call it. For a gradient that is not there: zeros.
torch::Tensor full_gradient(const nn::Parameter& parameter, Communicator& group);
/// Likewise of master(), or of local() where there is no master.
torch::Tensor full_master(const nn::Parameter& parameter, Communicator& group);

}  // namespace veomni::parallel
