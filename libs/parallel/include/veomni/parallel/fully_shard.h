// SPDX-License-Identifier: Apache-2.0
/// Shares out the parameters of a tree of Units over a group of ranks (FSDP2's layout: every
/// parameter by its rows).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>

#include "veomni/comm/communicator.h"
#include "veomni/nn/module.h"
#include "veomni/nn/unit.h"

namespace veomni::parallel {

struct FullyShardOptions {
  /// Keep only this rank's rows (fsdp2). false: every rank holds whole parameters (replicate);
  /// gradients are still summed over the group.
  bool shard = true;
  /// Free a unit's full parameters after its forward and gather them again in its backward. A root
  /// unit (one inside no other) keeps them from its forward to its backward in any case.
  bool reshard_after_forward = true;
  /// Dtype in which gradients travel; Undefined: max(fp32, the parameter's), in which sums are
  /// accumulated and stored either way.
  torch::ScalarType reduce_dtype = torch::ScalarType::Undefined;
};

/// What the units of one rank did; for tests, logs and `--print-plan`.
struct ShardStats {
  int64_t gathered_bytes = 0;  ///< full parameters in memory now, beside the shards
  int64_t peak_gathered_bytes = 0;
  int64_t num_gathers = 0;  ///< times a unit's parameters were collected
  int64_t num_reduces = 0;  ///< times a unit's gradients were summed over the group
};

/// Attaches an interceptor at Stage::kShard to every Unit of `root`'s tree and sets every
/// parameter's ShardSpec. Call it while the tree is on meta, then nn::materialize: each rank
/// allocates and loads only its rows.
///
/// From then on, with G ranks in `group`:
///   - forward gathers a unit's parameters into value(), runs it, and frees them again if so asked;
///   - backward gathers them again before the unit's backward and, once all its gradients are
///     there, adds the SUM over the ranks to Parameter::grad(): this rank's rows, over
///     micro-batches, in max(fp32, dtype). A gradient that never came counts as zero, so that all
///     ranks always make the same calls and every trainable parameter has a gradient;
///   - frozen parameters have no gradient and are not reduced; they are gathered in backward where
///     gradients pass;
///   - a unit in which nothing trains and into which no gradient-needing tensor goes costs nothing
///     in backward.
/// A scalar parameter is whole on every rank. G == 1: nothing is copied, freed or reduced.
///
/// Every rank must run the same units in the same order, forward and backward, whatever its data.
///
/// @throws ConfigError for a parameter outside every Unit or inside two
/// @throws veomni::Error if a unit has a kShard interceptor already
std::shared_ptr<ShardStats> fully_shard(nn::Module& root, std::shared_ptr<Communicator> group,
                                        const FullyShardOptions& options = {});

/// One unit of the above with its own options, counted in `stats`. The caller sees to parameters
/// outside units.
void shard_unit(nn::Unit& unit, std::shared_ptr<Communicator> group,
                const FullyShardOptions& options, std::shared_ptr<ShardStats> stats);

/// @throws ConfigError for a parameter of `root`'s tree outside every Unit or inside two
void check_units_own_parameters(nn::Module& root);

/// Whether the parameter's rows are shared out over a group (though one rank may own them all).
bool is_sharded(const nn::Parameter& parameter);

/// The whole tensor on every rank of the group over which the parameter is sharded, in max(fp32,
/// dtype). Every rank must call it. For a gradient that is not there: zeros.
torch::Tensor full_gradient(const nn::Parameter& parameter, Communicator& group);
/// Likewise of master(), or of local() where there is no master.
torch::Tensor full_master(const nn::Parameter& parameter, Communicator& group);

}  // namespace veomni::parallel
