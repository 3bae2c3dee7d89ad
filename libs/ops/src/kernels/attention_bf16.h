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
    for (int64_t c = 0; c < columns; c += kColumns) {
      const __mmask32 from = r < rows ? column_mask(0, width - c) : 0;
      _mm512_mask_storeu_epi16(to + c, column_mask(0, columns - c),
                               _mm512_maskz_loadu_epi16(from, x.data + r * x.stride + c));
    }
  }
}

/// As pack_down_rows, with zeros up to `padded` rows.
inline void pack_pairs_down(HeadRows x, int64_t rows, int64_t width, int64_t padded,
                            int64_t columns, uint32_t* out) {
  pack_down_rows(x.data, x.stride, rows, width, columns, out);
  fill(out + (rows + 1) / 2 * columns, out + padded / 2 * columns, 0u);
}

inline float dot(const bf16* x, const bf16* y, int64_t count) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += kColumns) {
    const __mmask32 mask = column_mask(0, count - i);
    sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_maskz_loadu_epi16(mask, x + i),
                           (__m512bh)_mm512_maskz_loadu_epi16(mask, y + i));
  }
  return _mm512_reduce_add_ps(sum);
}

/// Scores below it, in powers of 2, are far from what a float holds, whatever they are multiplied with and summed to: their
/// exponents need not be relative to the highest.
inline constexpr float kScoreBound = 60;

/// The largest squared norm of some rows; NaN if one is.
inline float largest_norm(HeadRows x, int64_t rows, int64_t width) {
  float largest = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const bf16* row = x.data + r * x.stride;
    const float norm = dot(row, row, width);
    if (norm > largest || norm != norm) largest = norm;
  }
  return largest;
}

/// A segment's keys and values of one kv head as the Form lays them out, in room for padded rows.
struct PackedKeys {
  uint32_t *keys, *values;
  float* norm;  ///< room for one number
};

/// Queries of one head and segment that are attended to together.
struct QueryBlock {
  int64_t token, head, rows;
  int64_t position, keys;  ///< own key of the first; keys of the segment

  QueryBlock part(int64_t first, int64_t most) const {
    return {token + first, head, min_of(most, rows - first), position + first, keys};
  }
  QueryBlock of_head(int64_t i) const { return {token, head + i, rows, position, keys}; }
};

/// Deals out the forward pass. A Form has
///   Scope                   lives in a thread while it multiplies
///   pack(k, v, keys, to)    lays out keys and values once for all queries
///   attend(block, heads, from, scratch)   the block of each of `heads` heads
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
  /// Scores in powers of 2.
  float factor() const { return static_cast<float>(s_.scale) * kLog2E; }
  /// Whether all scores of queries of this squared norm are below kScoreBound: |q · k| <= |q| |k|. Not if a NaN is among them.
  bool bounded(float norm, PackedKeys keys) const {
    return factor() * factor() * norm * *keys.norm <= kScoreBound * kScoreBound;
  }

  float* lse(const QueryBlock& b) const {
    return static_cast<float*>(a_.lse) + b.head * tokens_ + b.token;
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

  /// packed_at: padded keys of the segments before.
  PackedKeys packed(int64_t segment, int64_t packed_at, int64_t kv_head) const {
    const int64_t padded = round_up(s_.cu_k[segment + 1] - s_.cu_k[segment], kColumnMultiple);
    auto* at = static_cast<uint32_t*>(a_.workspace) +
               (packed_at * s_.kv_heads + kv_head * padded) * (plan_.padded_k + plan_.padded_v);
    float* end = static_cast<float*>(a_.workspace) + plan_.forward_packed(s_);
    return {at, at + padded * plan_.padded_k / 2,
            end - (segment * s_.kv_heads + kv_head + 1) * kLine};
  }

  void pack(int64_t segment, int64_t kv_head) const {
    int64_t packed_at = 0;
    for (int64_t i = 0; i < segment; ++i)
      packed_at += round_up(s_.cu_k[i + 1] - s_.cu_k[i], kColumnMultiple);
    const int64_t begin = s_.cu_k[segment];
    form().pack(head_rows(a_.k, s_.kv_heads, s_.k_width, begin, kv_head),
                head_rows(a_.v, s_.kv_heads, s_.v_width, begin, kv_head),
                s_.cu_k[segment + 1] - begin, packed(segment, packed_at, kv_head));
  }

  void attend(const ForwardTask& task, float* scratch) const {
    const int64_t group = s_.heads / s_.kv_heads, q_begin = s_.cu_q[task.segment];
    const int64_t queries = s_.cu_q[task.segment + 1] - q_begin;
    const int64_t keys = s_.cu_k[task.segment + 1] - s_.cu_k[task.segment];
    const QueryBlock block{q_begin + task.first_query, task.kv_head * group,
                           min_of(kForwardQueries, queries - task.first_query),
                           task.first_query + keys - queries, keys};
    form().attend(block, group, packed(task.segment, task.packed_at, task.kv_head), scratch);
  }
};

/// Hands out a thread's scratch piece by piece.
struct Room {
  float* at;
  float* floats(int64_t count) {
    float* taken = at;
    at += count;
    return taken;
  }
  uint32_t* words(int64_t count) { return reinterpret_cast<uint32_t*>(floats(count)); }
  bf16* values(int64_t count) { return reinterpret_cast<bf16*>(floats(count / 2)); }
};

/// Where a task's gradients of keys and values are summed.
struct BackwardSums {
  float *dk, *dv;  ///< [padded keys][padded width], over the task's queries
  float* end;
};

/// Deals out the backward pass. A Form has
///   Scope                       lives in a thread while it multiplies
///   Scratch                     a task's view of its thread's scratch, BackwardSums among it
///   divide(padded_keys, scratch)  lays one out; `end` is where the scratch's rest begins
///   pack(k, v, keys, scratch)   lays out keys and values once for the task
///   run_queries(block, scratch) writes dq and adds to dk and dv, not yet scaled
template <typename Form> class BackwardDriver {
 public:
  explicit BackwardDriver(const AttentionBackward& a)
      : a_(a),
        s_(a.shape),
        plan_(plan_attention(a.shape, omp_get_max_threads())),
        tokens_(a.shape.cu_q[a.shape.segments]) {}

  void run() const {
    const std::vector<BackwardTask> tasks = backward_tasks(s_, plan_.splits);
    const int64_t count = tasks.size(), sums = plan_.splits > 1 ? s_.segments * s_.kv_heads : 0;
#pragma omp parallel num_threads(plan_.threads)
    {
      [[maybe_unused]] const typename Form::Scope scope;
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < count; ++i)
        run_task(tasks[i], static_cast<float*>(a_.workspace) +
                               omp_get_thread_num() * plan_.backward_scratch());
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < sums; ++i) sum_splits(i / s_.kv_heads, i % s_.kv_heads);
#pragma omp for schedule(static)
      for (int64_t h = 0; h < (a_.dsinks ? s_.heads : 0); ++h) sink_gradient(h);
    }
  }

 protected:
  float scale() const { return static_cast<float>(s_.scale); }
  HeadRows q_rows(const QueryBlock& b) const {
    return head_rows(a_.q, s_.heads, s_.k_width, b.token, b.head);
  }
  HeadRows dout_rows(const QueryBlock& b) const {
    return head_rows(a_.dout, s_.heads, s_.v_width, b.token, b.head);
  }
  bf16* dq(const QueryBlock& b) const {
    return static_cast<bf16*>(a_.dq) + (b.token * s_.heads + b.head) * s_.k_width;
  }

  /// lse, in powers of 2, and delta = dout · out of the block's rows; up to `padded`, what makes probabilities 0.
  void load_rows(const QueryBlock& b, int64_t padded, float* lse, float* delta) const {
    const HeadRows dout = dout_rows(b),
                   out = head_rows(a_.out, s_.heads, s_.v_width, b.token, b.head);
    for (int64_t r = 0; r < padded; ++r) {
      const bool exists = r < b.rows;
      lse[r] = exists ? static_cast<const float*>(a_.lse)[b.head * tokens_ + b.token + r] * kLog2E
                      : __builtin_inff();
      delta[r] =
          exists ? dot(dout.data + r * dout.stride, out.data + r * out.stride, s_.v_width) : 0;
    }
  }

  /// The softmax of a single score is constant: its gradient is an exact zero, not a rounding error.
  bool is_constant(const KeyRange& seen) const { return seen.first == seen.last && !a_.sinks; }

  const AttentionBackward& a_;
  const AttentionShape& s_;
  const AttentionPlan plan_;
  const int64_t tokens_;

 private:
  const Form& form() const { return static_cast<const Form&>(*this); }
  int64_t num_keys(int64_t segment) const { return s_.cu_k[segment + 1] - s_.cu_k[segment]; }

  float* partial(int64_t split, int64_t segment, int64_t kv_head) const {
    int64_t row = 0, rows = plan_.sum_padded_keys + kRowMultiple * s_.segments;
    for (int64_t i = 0; i < segment; ++i)
      row += round_up(num_keys(i), kColumnMultiple) + kRowMultiple;
    return static_cast<float*>(a_.workspace) + plan_.threads * plan_.backward_scratch() +
           ((split * s_.kv_heads + kv_head) * rows + row) * (plan_.padded_k + plan_.padded_v);
  }
  float* dv_after(float* dk, int64_t padded_keys) const {
    return dk + (padded_keys + kRowMultiple) * plan_.padded_k;
  }

  void run_task(const BackwardTask& task, float* scratch) const {
    const int64_t begin = s_.cu_k[task.segment], keys = num_keys(task.segment);
    const int64_t q_begin = s_.cu_q[task.segment], queries = s_.cu_q[task.segment + 1] - q_begin;
    const int64_t padded_keys = round_up(keys, kColumnMultiple);
    auto w = form().divide(padded_keys, scratch);
    w.dk = plan_.splits > 1 ? partial(task.split, task.segment, task.kv_head) : w.end;
    w.dv = dv_after(w.dk, padded_keys);
    fill(w.dk, w.dk + plan_.backward_sums(padded_keys), 0.f);
    form().pack(head_rows(a_.k, s_.kv_heads, s_.k_width, begin, task.kv_head),
                head_rows(a_.v, s_.kv_heads, s_.v_width, begin, task.kv_head), keys, w);
    const int64_t group = s_.heads / s_.kv_heads;
    for (int64_t i = 0; i < group; ++i) {
      for (int64_t q0 = task.first_query; q0 < task.end_query; q0 += kBackwardQueries) {
        const QueryBlock block{q_begin + q0, task.kv_head * group + i,
                               min_of(kBackwardQueries, task.end_query - q0), q0 + keys - queries,
                               keys};
        form().run_queries(block, w);
      }
    }
    if (plan_.splits == 1) write_sums(task.segment, task.kv_head, w.dk, w.dv);
  }

  void write_sums(int64_t segment, int64_t kv_head, const float* dk, const float* dv) const {
    const int64_t begin = s_.cu_k[segment];
    for (int64_t j = 0; j < num_keys(segment); ++j) {
      bf16* to_k = static_cast<bf16*>(a_.dk) + ((begin + j) * s_.kv_heads + kv_head) * s_.k_width;
      bf16* to_v = static_cast<bf16*>(a_.dv) + ((begin + j) * s_.kv_heads + kv_head) * s_.v_width;
      for (int64_t c = 0; c < s_.k_width; ++c)
        to_k[c] = narrow<bf16>(dk[j * plan_.padded_k + c] * scale());
      for (int64_t c = 0; c < s_.v_width; ++c) to_v[c] = narrow<bf16>(dv[j * plan_.padded_v + c]);
    }
  }

  void sum_splits(int64_t segment, int64_t kv_head) const {
    const int64_t padded_keys = round_up(num_keys(segment), kColumnMultiple);
    if (padded_keys == 0) return;
    float* sum = partial(0, segment, kv_head);
    for (int64_t p = 1; p < plan_.splits; ++p) {
      const float* more = partial(p, segment, kv_head);
      for (int64_t i = 0; i < plan_.backward_sums(padded_keys); ++i) sum[i] += more[i];
    }
    write_sums(segment, kv_head, sum, dv_after(sum, padded_keys));
  }

  /// The sink's probability p gains Σ_t −p_t · delta_t: it carries no value.
  void sink_gradient(int64_t head) const {
    float sum = 0;
    const float sink = static_cast<const float*>(a_.sinks)[head];
    for (int64_t t = 0; t < tokens_; ++t) {
      const int64_t at = (t * s_.heads + head) * s_.v_width;
      const float delta = dot(static_cast<const bf16*>(a_.dout) + at,
                              static_cast<const bf16*>(a_.out) + at, s_.v_width);
      sum -= std::exp(sink - static_cast<const float*>(a_.lse)[head * tokens_ + t]) * delta;
    }
    static_cast<float*>(a_.dsinks)[head] = sum;
  }
};

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
