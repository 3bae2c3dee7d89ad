// SPDX-License-Identifier: Apache-2.0
#include "veomni/generate/kv_cache.h"

#include "veomni/base/error.h"
#include "veomni/nn/module.h"
#include "veomni/ops/attention.h"

namespace veomni::generate {

void KvCache::append(Entry& entry, const torch::Tensor& k_nGK, const torch::Tensor& v_nGK) {
  const int64_t needed = entry.length + k_nGK.size(0);
  const int64_t capacity = entry.k.defined() ? entry.k.size(0) : 0;
  if (needed > capacity) {
    // Doubling keeps the copies of a long answer linear in its length.
    const int64_t grown = std::max(needed, 2 * capacity);
    auto k = torch::empty({grown, k_nGK.size(1), k_nGK.size(2)}, k_nGK.options());
    auto v = torch::empty({grown, v_nGK.size(1), v_nGK.size(2)}, v_nGK.options());
    if (entry.length > 0) {
      k.narrow(0, 0, entry.length).copy_(entry.k.narrow(0, 0, entry.length));
      v.narrow(0, 0, entry.length).copy_(entry.v.narrow(0, 0, entry.length));
    }
    entry.k = k;
    entry.v = v;
  }
  entry.k.narrow(0, entry.length, k_nGK.size(0)).copy_(k_nGK);
  entry.v.narrow(0, entry.length, v_nGK.size(0)).copy_(v_nGK);
  entry.length = needed;
}

torch::Tensor KvCache::attend(nn::Pending q, nn::Pending k, nn::Pending v,
                              const nn::Sequence& q_seq, const nn::Sequence&,
                              const nn::AttentionSpec& spec) {
  const auto& cu_q = q_seq->cu_seqlens;
  const size_t count = cu_q.size() - 1;
  VEOMNI_CHECK(entries_.size() <= count, "the KV cache holds ", entries_.size(),
               " sequences, the batch has ", count);
  entries_.resize(count);  // sequences that join come last
  const auto k_TGK = k.get(), v_TGK = v.get();
  std::vector<torch::Tensor> keys, values;
  std::vector<int32_t> cu_k{0};
  for (size_t i = 0; i < count; ++i) {
    const int64_t length = cu_q[i + 1] - cu_q[i];
    append(entries_[i], k_TGK.narrow(0, cu_q[i], length), v_TGK.narrow(0, cu_q[i], length));
    keys.push_back(entries_[i].k.narrow(0, 0, entries_[i].length));
    values.push_back(entries_[i].v.narrow(0, 0, entries_[i].length));
    cu_k.push_back(cu_k.back() + static_cast<int32_t>(entries_[i].length));
  }
  return ops::varlen_attention(q.get(), torch::cat(keys), torch::cat(values), cu_q, cu_k, spec)
      .out_THK;
}

void KvCache::keep(const std::vector<int64_t>& live) {
  std::vector<Entry> kept;
  for (int64_t index : live) kept.push_back(std::move(entries_[index]));
  entries_ = std::move(kept);
}

KvCacheScope::KvCacheScope(nn::Module& model) {
  for (auto& [path, slot] : nn::find_modules<nn::AttentionSlot>(model)) {
    slots_.push_back(slot);
    caches_.push_back(std::make_shared<KvCache>());
    slot->set_core(caches_.back());
  }
}

KvCacheScope::~KvCacheScope() {
  for (auto* slot : slots_) slot->set_core(nullptr);
}

void KvCacheScope::keep(const std::vector<int64_t>& live) {
  for (auto& cache : caches_) cache->keep(live);
}

}  // namespace veomni::generate
