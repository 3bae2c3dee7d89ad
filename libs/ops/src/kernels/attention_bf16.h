// SPDX-License-Identifier: Apache-2.0
/// What attention's forms in bfloat16 share: how tasks are dealt out, and what happens to finished rows.
#pragma once

#include <omp.h>

#include <cmath>
#include <vector>

#include "kernels/attention_tasks.h"
#include "kernels/avx512_bf16.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// Rows of one head in a [tokens, heads, width] array.
struct HeadRows {
  const bf16* data;
  int64_t stride;
};
inline HeadRows head_rows(const void* base, int64_t heads, int64_t width, int64_t token,
                          int64_t head) {
  return {static_cast<const bf16*>(base) + (token * heads + head) * width, heads * width};
}

/// to[r, 0 … columns) = x[r] and zeros; zero rows up to `padded`.
inline void copy_rows(HeadRows x, int64_t rows, int64_t width, int64_t padded, int64_t columns,
                      bf16* to) {
  for (int64_t r = 0; r < padded; ++r, to += columns) {
    const int64_t count = r < rows ? width : 0;
    if (count > 0) std::memcpy(to, x.data + r * x.stride, count * sizeof(bf16));
    std::memset(to + count, 0, (columns - count) * sizeof(bf16));
  }
}

inline float dot(const bf16* x, const bf16* y, int64_t count) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += wide(x[i]) * wide(y[i]);
  return sum;
}

/// How a row of a finished softmax ends, from its highest score and the sum relative to it.
struct RowEnd {
  float lse, scale;  ///< scale: for the row's weighted sum of values
};
inline RowEnd end_row(float top, float sum, const float* sink) {
  float factor = 1;
  if (sink) {
    const float highest = *sink > top ? *sink : top;
    factor = std::exp(top - highest);
    sum = sum * factor + std::exp(*sink - highest);
    top = highest;
  }
  if (sum == 0)
    return {-__builtin_inff(), 0};  // sees nothing; not by `top`: a NaN must come out as NaN
  return {top + std::log(sum), factor / sum};
}

/// A segment's keys and values of one kv head as the Form lays them out, in room for padded rows.
struct PackedKeys {
  uint32_t *keys, *values;
};

/// Queries of one head and segment that are attended to together.
struct QueryBlock {
  int64_t token, head, rows;
  int64_t position, keys;  ///< own key of the first; keys of the segment

  QueryBlock part(int64_t first, int64_t most) const {
    return {token + first, head, min_of(most, rows - first), position + first, keys};
  }
};

/// Deals out the forward pass. A Form has
///   Scope                   lives in a thread while it multiplies
///   pack(k, v, keys, to)    lays out keys and values once for all queries
///   attend(block, from, scratch)
template <typename Form> class ForwardDriver {
 public:
  explicit ForwardDriver(const AttentionForward& a)
      : a_(a),
        s_(a.shape),
        plan_(plan_attention(a.shape, omp_get_max_threads())),
        tokens_(a.shape.cu_q[a.shape.segments]) {}

  void run() const {
    const std::vector<ForwardTask> tasks = forward_tasks(s_);
    const int64_t packs = s_.segments * s_.kv_heads, count = tasks.size();
    float* scratch = static_cast<float*>(a_.workspace) + plan_.forward_packed(s_);
#pragma omp parallel num_threads(plan_.threads)
    {
      [[maybe_unused]] const typename Form::Scope scope;
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < packs; ++i) pack(i / s_.kv_heads, i % s_.kv_heads);
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < count; ++i)
        attend(tasks[i], scratch + omp_get_thread_num() * plan_.forward_scratch());
    }
  }

 protected:
  void write_lse(const QueryBlock& b, int64_t r, float lse) const {
    static_cast<float*>(a_.lse)[b.head * tokens_ + b.token + r] = lse;
  }
  bf16* out_row(const QueryBlock& b, int64_t r) const {
    return static_cast<bf16*>(a_.out) + ((b.token + r) * s_.heads + b.head) * s_.v_width;
  }
  const float* sink(int64_t head) const {
    return a_.sinks ? static_cast<const float*>(a_.sinks) + head : nullptr;
  }

  const AttentionForward& a_;
  const AttentionShape& s_;
  const AttentionPlan plan_;
  const int64_t tokens_;

 private:
  const Form& form() const { return static_cast<const Form&>(*this); }

  PackedKeys packed(int64_t packed_at, int64_t kv_head, int64_t keys) const {
    const int64_t padded = round_up(keys, kColumnMultiple), each = plan_.padded_k + plan_.padded_v;
    auto* at =
        static_cast<uint32_t*>(a_.workspace) + (packed_at * s_.kv_heads + kv_head * padded) * each;
    return {at, at + padded * plan_.padded_k / 2};
  }

  void pack(int64_t segment, int64_t kv_head) const {
    int64_t packed_at = 0;
    for (int64_t i = 0; i < segment; ++i)
      packed_at += round_up(s_.cu_k[i + 1] - s_.cu_k[i], kColumnMultiple);
    const int64_t begin = s_.cu_k[segment], keys = s_.cu_k[segment + 1] - begin;
    form().pack(head_rows(a_.k, s_.kv_heads, s_.k_width, begin, kv_head),
                head_rows(a_.v, s_.kv_heads, s_.v_width, begin, kv_head), keys,
                packed(packed_at, kv_head, keys));
  }

  void attend(const ForwardTask& task, float* scratch) const {
    const int64_t group = s_.heads / s_.kv_heads, q_begin = s_.cu_q[task.segment];
    const int64_t queries = s_.cu_q[task.segment + 1] - q_begin;
    const int64_t keys = s_.cu_k[task.segment + 1] - s_.cu_k[task.segment];
    for (int64_t i = 0; i < group; ++i) {
      const QueryBlock block{q_begin + task.first_query, task.kv_head * group + i,
                             min_of(kForwardQueries, queries - task.first_query),
                             task.first_query + keys - queries, keys};
      form().attend(block, packed(task.packed_at, task.kv_head, keys), scratch);
    }
  }
};

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
