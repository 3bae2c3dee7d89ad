// SPDX-License-Identifier: Apache-2.0
/// Seam 2 of 4. The part of attention that sees more than one token: sequence parallelism, ring attention and KV
/// caches replace it; projections, norms and RoPE stay in the model.
#pragma once

#include <memory>

#include "veomni/nn/module.h"
#include "veomni/nn/sequence.h"
#include "veomni/ops/attention.h"

namespace veomni::nn {

using ops::AttentionSpec;

/// The receiving half of an exchange. A second autograd node, made inside attend(): in backward all reverse exchanges
/// start before the first wait.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual torch::Tensor wait(const torch::Tensor& sent) = 0;
};

/// An exchange under way, or (without `later`) a tensor that is ready.
struct Pending {
  torch::Tensor now;
  std::shared_ptr<Exchange> later;
  torch::Tensor get() const { return later ? later->wait(now) : now; }
};

/// T query tokens  U key tokens  H query heads  G key/value heads  K head dim  Kv value head dim
class AttentionCore {
 public:
  enum class Role { kQuery, kKey, kValue };
  virtual ~AttentionCore() = default;

  /// Called after norm and RoPE, as soon as each of q, k and v exists. Models that make the three in one product call it
  /// three times in a row: the exchanges then start together, and have no projection to travel behind, only each other and
  /// what attend() does before it waits. k and v of one call may be one tensor (MLA).
  virtual Pending exchange(torch::Tensor x_THK, Role role, const Sequence& seq) = 0;

  /// q [T,H,K], k [U,G,K], v [U,G,Kv] -> [T,H,Kv]. q_seq != k_seq: cross-attention. A core that splits heads slices
  /// spec.sinks_H.
  virtual torch::Tensor attend(Pending q, Pending k, Pending v, const Sequence& q_seq,
                               const Sequence& k_seq, const AttentionSpec& spec) = 0;
};

/// All tokens are here: no exchange, plain varlen attention.
class LocalAttention final : public AttentionCore {
 public:
  Pending exchange(torch::Tensor x_THK, Role, const Sequence&) override {
    return {std::move(x_THK), nullptr};
  }
  torch::Tensor attend(Pending q, Pending k, Pending v, const Sequence& q_seq,
                       const Sequence& k_seq, const AttentionSpec& spec) override;
};

/// Where an attention module keeps its core. One per attention module, so a KV cache is a core with per-layer state.
/// Found in the module tree with find_modules<AttentionSlot>.
class AttentionSlot final : public Module {
 public:
  AttentionCore& core() { return *core_; }
  /// nullptr restores LocalAttention.
  void set_core(std::shared_ptr<AttentionCore> core);

 private:
  std::shared_ptr<AttentionCore> core_ = std::make_shared<LocalAttention>();
};

}  // namespace veomni::nn
