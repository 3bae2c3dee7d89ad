// SPDX-License-Identifier: Apache-2.0
/// Keys and values of the tokens seen so far, per layer: an AttentionCore with state.
#pragma once

#include <memory>
#include <vector>

#include "veomni/nn/attention_core.h"

namespace veomni::generate {

/// One layer's cache for a batch of sequences. Every attend() appends the new keys and values of each sequence of
/// q_seq (one segment a live sequence, in order; new sequences come after those it holds) and attends over all of its own so far; causal masks align at the end.
///
/// T new tokens of all live sequences  G kv heads  K head dim
class KvCache final : public nn::AttentionCore {
 public:
  nn::Pending exchange(torch::Tensor x_THK, Role, const nn::Sequence&) override {
    return {std::move(x_THK), nullptr};
  }
  torch::Tensor attend(nn::Pending q, nn::Pending k, nn::Pending v, const nn::Sequence& q_seq,
                       const nn::Sequence& k_seq, const nn::AttentionSpec& spec) override;

  /// Keeps only the sequences whose index is in `live` (ascending): the others have ended.
  void keep(const std::vector<int64_t>& live);

 private:
  struct Entry {
    torch::Tensor k, v;  // [capacity, G, K]
    int64_t length = 0;
  };
  void append(Entry& entry, const torch::Tensor& k_nGK, const torch::Tensor& v_nGK);
  std::vector<Entry> entries_;
};

/// Puts a KvCache into every attention of a model for the scope's life.
class KvCacheScope {
 public:
  explicit KvCacheScope(nn::Module& model);
  ~KvCacheScope();
  KvCacheScope(const KvCacheScope&) = delete;
  KvCacheScope& operator=(const KvCacheScope&) = delete;
  void keep(const std::vector<int64_t>& live);

 private:
  std::vector<nn::AttentionSlot*> slots_;
  std::vector<std::shared_ptr<KvCache>> caches_;
};

}  // namespace veomni::generate
