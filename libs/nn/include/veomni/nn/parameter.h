// SPDX-License-Identifier: Apache-2.0
/// A module's parameter: a handle whose tensor can be replaced, sharded, freed and refilled without its owner noticing.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "veomni/io/shard_spec.h"
#include "veomni/ops/packed_weight.h"

namespace veomni::nn {

/// Where and in which dtype a layer allocates its parameters. Layers allocate with `empty` and never initialise.
struct ParamOptions {
  torch::Device device = torch::kCPU;
  torch::ScalarType dtype = torch::kFloat;  ///< compute dtype: what the model's ops read
};

/// Facts a model states about a parameter; a recipe's decisions refer to them.
enum ParamTag : uint32_t {
  kTagNone = 0,
  kTagEmbedding = 1u << 0,
  kTagHead = 1u << 1,
  kTagNorm = 1u << 2,
  kTagBias = 1u << 3,
  kTagExpert = 1u << 4,
};

/// How a fresh parameter is filled (see initialize.h).
struct Init {
  enum class Kind { kNormal, kZeros, kOnes } kind = Kind::kZeros;
  double std = 0;
  static Init normal(double std) { return {Kind::kNormal, std}; }
  static Init zeros() { return {Kind::kZeros, 0}; }
  static Init ones() { return {Kind::kOnes, 0}; }
};

/// A shared handle: copies refer to the same parameter (tied weights are two registrations of one handle).
///
/// Three tensors make a parameter:
///   value()   full shape, compute dtype, autograd leaf: what ops read. Its storage may be freed outside its Unit.
///   local()   this rank's part (shard()), compute dtype: what a gather sends. Aliases value() unless it is sharded.
///   master()  the same part in max(fp32, dtype): what the optimizer owns. Aliases local() when the dtypes are equal;
///             undefined for inference in a narrower dtype.
/// Gradients accumulate in max(fp32, dtype): grad_dtype() of value() is set so.
class Parameter {
 public:
  Parameter() = default;
  Parameter(std::vector<int64_t> shape, const ParamOptions& options, Init init,
            uint32_t tags = kTagNone);

  bool defined() const { return state_ != nullptr; }
  const torch::Tensor& value() const { return state_->value; }
  const torch::Tensor& local() const { return state_->local; }
  const torch::Tensor& master() const { return state_->master; }

  /// The dotted path of its first registration ("foundation.layers.0.attention.qkv.weight"); see assign_names.
  const std::string& name() const { return state_->name; }
  const std::vector<int64_t>& shape() const { return state_->shape; }
  int64_t numel() const;
  torch::ScalarType dtype() const { return state_->value.scalar_type(); }
  uint32_t tags() const { return state_->tags; }
  const Init& init() const { return state_->init; }
  const io::ShardSpec& shard() const { return state_->shard; }
  /// Which of the equal copies of a sharded part this rank holds (0 without replicas). Copy 0 is the one that is
  /// counted in norms and written to disk. Means nothing while the shard is whole.
  int replica() const { return state_->replica; }

  bool trainable() const { return state_->value.requires_grad(); }
  void set_trainable(bool trainable);

  /// The gradient of local(), accumulated over micro-batches, in max(fp32, dtype); undefined before the first.
  /// While the parameter is not sharded this is value().grad(); a sharding strategy sets it otherwise.
  torch::Tensor grad() const;
  void set_grad(torch::Tensor grad);
  void clear_grad();

  /// Counts the writes of value()'s memory. Version counters do not: optimizers and gathers write through other tensors.
  /// assign_local() and replace_value() count themselves; who writes otherwise (an optimizer, a gather) calls written().
  uint64_t generation() const { return state_->packed->generation(); }
  void written() { state_->packed->written(); }
  /// value()'s layouts for products, valid for one generation. Keeps none unless told to.
  const ops::PackedWeightPtr& packed() const { return state_->packed; }

  /// Replaces the tensors. For materialize() and sharding strategies only; keeps trainable().
  void replace_value(torch::Tensor value);
  void replace_local(torch::Tensor local, torch::Tensor master);
  void set_shard(io::ShardSpec shard, int replica = 0) {
    state_->shard = std::move(shard);
    state_->replica = replica;
  }
  void set_name(std::string name) { state_->name = std::move(name); }

  /// Writes rows (of shard()'s shape, any floating dtype) into master() and local().
  void assign_local(const torch::Tensor& rows);

  /// Identity, for maps and de-duplication of tied weights.
  const void* id() const { return state_.get(); }

 private:
  struct State {
    std::string name;
    std::vector<int64_t> shape;
    Init init;
    uint32_t tags = kTagNone;
    io::ShardSpec shard;
    int replica = 0;
    torch::Tensor value, local, master, shard_grad;
    ops::PackedWeightPtr packed = c10::make_intrusive<ops::PackedWeight>();
  };
  std::shared_ptr<State> state_;
};

/// max(fp32, dtype): the dtype of masters, gradients, statistics and losses.
torch::ScalarType wide_dtype(torch::ScalarType dtype);

}  // namespace veomni::nn
