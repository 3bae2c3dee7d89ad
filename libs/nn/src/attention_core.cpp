// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/attention_core.h"

namespace veomni::nn {

torch::Tensor LocalAttention::attend(Pending q, Pending k, Pending v, const Sequence& q_seq,
                                     const Sequence& k_seq, const AttentionSpec& spec) {
  return ops::varlen_attention(q.get(), k.get(), v.get(), q_seq->cu_seqlens, k_seq->cu_seqlens,
                               spec)
      .out_THK;
}

void AttentionSlot::set_core(std::shared_ptr<AttentionCore> core) {
  core_ = core ? std::move(core) : std::make_shared<LocalAttention>();
}

}  // namespace veomni::nn
