// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include <cmath>
#include <vector>

#include "kernels/attention_tasks.h"
#include "kernels/avx512_bf16.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// As the generic Forward; keys are packed along rows, values and probabilities pair neighbouring
/// keys.
class Forward {
 public:
  explicit Forward(const AttentionForward& a)
      : a_(a),
        s_(a.shape),
        plan_(plan_attention(a.shape, omp_get_max_threads())),
        tasks_(forward_tasks(a.shape)) {
    packed_ = static_cast<float*>(a.workspace);
    scratch_ = packed_ + plan_.forward_packed(s_);
    tokens_ = s_.cu_q[s_.segments];
  }

  void run() {
    const int64_t packs = s_.segments * s_.kv_heads, tasks = tasks_.size();
#pragma omp parallel num_threads(plan_.threads)
    {
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < packs; ++i) pack(i / s_.kv_heads, i % s_.kv_heads);
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < tasks; ++i)
        attend(tasks_[i], scratch_ + omp_get_thread_num() * plan_.forward_scratch(s_));
    }
  }

 private:
  struct Packed {
    uint32_t *keys, *values;
  };
  Packed packed(int64_t packed_at, int64_t kv_head, int64_t keys) const {
    const int64_t padded = round_up(keys, kColumnMultiple), each = s_.k_width + plan_.padded_v;
    auto* at =
        reinterpret_cast<uint32_t*>(packed_ + (packed_at * s_.kv_heads + kv_head * padded) * each);
    return {at, at + padded * s_.k_width / 2};
  }

  void pack(int64_t segment, int64_t kv_head) const {
    int64_t packed_at = 0;
    for (int64_t i = 0; i < segment; ++i)
      packed_at += round_up(s_.cu_k[i + 1] - s_.cu_k[i], kColumnMultiple);
    const int64_t begin = s_.cu_k[segment], keys = s_.cu_k[segment + 1] - begin;
    const Packed to = packed(packed_at, kv_head, keys);
    pack_along_rows(row(a_.k, s_.kv_heads, s_.k_width, begin, kv_head), s_.kv_heads * s_.k_width,
                    keys, s_.k_width, to.keys);
    pack_down_rows(row(a_.v, s_.kv_heads, s_.v_width, begin, kv_head), s_.kv_heads * s_.v_width,
                   keys, s_.v_width, plan_.padded_v, to.values);
  }

  static const bf16* row(const void* base, int64_t heads, int64_t width, int64_t token,
                         int64_t head) {
    return static_cast<const bf16*>(base) + (token * heads + head) * width;
  }

  void attend(const ForwardTask& task, float* scratch) const {
    const int64_t group = s_.heads / s_.kv_heads;
    for (int64_t i = 0; i < group; ++i) attend_head(task, task.kv_head * group + i, scratch);
  }

  /// Running softmax of one block of queries.
  struct Block {
    const bf16* q;
    float* scores;  // [kRows, kForwardKeys]
    bf16* p;        // [kRows, kForwardKeys]
    float* out;     // [kForwardQueries, padded_v]
    float top[kForwardQueries], sum[kForwardQueries];
  };

  void attend_head(const ForwardTask& task, int64_t head, float* scratch) const {
    const int64_t q_begin = s_.cu_q[task.segment], queries = s_.cu_q[task.segment + 1] - q_begin;
    const int64_t keys = s_.cu_k[task.segment + 1] - s_.cu_k[task.segment];
    const int64_t rows = min_of(kForwardQueries, queries - task.first_query);
    const int64_t position = task.first_query + keys - queries;
    const Packed from = packed(task.packed_at, task.kv_head, keys);
    Block b;
    b.scores = scratch;
    b.p = reinterpret_cast<bf16*>(b.scores + kRowMultiple * kForwardKeys);
    b.out = b.scores + kRowMultiple * kForwardKeys * 3 / 2;
    b.q = load_queries(q_begin + task.first_query, head, rows,
                       b.out + kForwardQueries * plan_.padded_v);
    fill(b.out, b.out + round_up(rows, kRows) * plan_.padded_v, 0.f);
    fill(b.top, b.top + rows, -__builtin_inff());
    fill(b.sum, b.sum + rows, 0.f);
    const int64_t first =
        max_of(0, key_range(s_, position, keys).first) / kColumnMultiple * kColumnMultiple;
    const int64_t last = key_range(s_, position + rows - 1, keys).last;
    for (int64_t k0 = first; k0 <= last; k0 += kForwardKeys) {
      const int64_t k1 = min_of(last + 1, k0 + kForwardKeys);
      for (int64_t r = 0; r < rows; r += kRows)
        attend_rows(b, r, min_of(kRows, rows - r), position + r, keys, k0, k1, from);
    }
    finish(task, head, rows, b);
  }

  /// The block's queries, with zero rows up to a whole tile.
  const bf16* load_queries(int64_t token, int64_t head, int64_t rows, float* to) const {
    auto* q = reinterpret_cast<bf16*>(to);
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(q + r * s_.k_width, row(a_.q, s_.heads, s_.k_width, token + r, head),
                  s_.k_width * sizeof(bf16));
    }
    std::memset(q + rows * s_.k_width, 0,
                (round_up(rows, kRows) - rows) * s_.k_width * sizeof(bf16));
    return q;
  }

  void attend_rows(Block& b, int64_t r, int64_t rows, int64_t position, int64_t keys, int64_t k0,
                   int64_t k1, Packed from) const {
    const int64_t first =
        max_of(k0, key_range(s_, position, keys).first) / kColumnMultiple * kColumnMultiple;
    const int64_t last = min_of(k1 - 1, key_range(s_, position + rows - 1, keys).last);
    if (first > last) return;
    const int64_t columns = round_up(last + 1 - first, kColumns);
    for (int64_t c = 0; c < columns; c += kColumns) {
      tile_pairs(words(b.q + r * s_.k_width), s_.k_width / 2, 1,
                 from.keys + (first + c) * s_.k_width / 2, kColumns, s_.k_width / 2,
                 [&](int i, __m512 left, __m512 right) {
                   set_to(b.scores + i * kForwardKeys + c, left, right);
                 });
    }
    for (int64_t i = 0; i < rows; ++i) {
      const KeyRange own = key_range(s_, position + i, keys);
      softmax_row(b, r + i, i, max_of(0, own.first - first), min_of(own.last + 1, k1) - first,
                  columns);
    }
    for (int64_t i = rows; i < kRows; ++i)
      std::memset(b.p + i * kForwardKeys, 0, columns * sizeof(bf16));
    // Keys past the last were packed as zeros up to an even count; their probabilities are 0.
    const int64_t pairs = (last + 1 - first + 1) / 2;
    for (int64_t c = 0; c < plan_.padded_v; c += kColumns) {
      float* out = b.out + r * plan_.padded_v + c;
      tile_pairs(words(b.p), kForwardKeys / 2, 1, from.values + first / 2 * plan_.padded_v + c,
                 plan_.padded_v, pairs, [&](int i, __m512 left, __m512 right) {
                   add_to(out + i * plan_.padded_v, left, right);
                 });
    }
  }

  /// Scores of tile row i in columns [begin, end) become probabilities; the others become 0.
  void softmax_row(Block& b, int64_t r, int64_t i, int64_t begin, int64_t end,
                   int64_t columns) const {
    const float* scores = b.scores + i * kForwardKeys;
    bf16* p = b.p + i * kForwardKeys;
    if (begin >= end) {
      std::memset(p, 0, columns * sizeof(bf16));
      return;
    }
    const __m512 lowest = _mm512_set1_ps(-__builtin_inff()),
                 scale = _mm512_set1_ps(static_cast<float>(s_.scale));
    __m512 top0 = lowest, top1 = lowest;
    for (int64_t c = begin / kColumns * kColumns; c < end; c += kColumns) {
      const uint32_t mask = column_mask(begin - c, end - c);
      top0 = _mm512_mask_max_ps(top0, static_cast<__mmask16>(mask), top0,
                                _mm512_mul_ps(scale, _mm512_loadu_ps(scores + c)));
      top1 = _mm512_mask_max_ps(top1, static_cast<__mmask16>(mask >> 16), top1,
                                _mm512_mul_ps(scale, _mm512_loadu_ps(scores + c + 16)));
    }
    const float here = _mm512_reduce_max_ps(_mm512_max_ps(top0, top1));
    const float highest = here > b.top[r] ? here : b.top[r];
    const __m512 shift = _mm512_set1_ps(highest);
    __m512 sum0 = _mm512_setzero_ps(), sum1 = sum0;
    for (int64_t c = 0; c < columns; c += kColumns) {
      const uint32_t mask = column_mask(begin - c, end - c);
      const __m512 left =
          _mm512_maskz_mov_ps(static_cast<__mmask16>(mask),
                              exp_512(_mm512_fmsub_ps(scale, _mm512_loadu_ps(scores + c), shift)));
      const __m512 right = _mm512_maskz_mov_ps(
          static_cast<__mmask16>(mask >> 16),
          exp_512(_mm512_fmsub_ps(scale, _mm512_loadu_ps(scores + c + 16), shift)));
      sum0 = _mm512_add_ps(sum0, left);
      sum1 = _mm512_add_ps(sum1, right);
      store_bf16(p + c, left, right);
    }
    if (highest != b.top[r] && b.sum[r] > 0) {
      const float shrink = std::exp(b.top[r] - highest);
      b.sum[r] *= shrink;
      for (int64_t c = 0; c < plan_.padded_v; ++c) b.out[r * plan_.padded_v + c] *= shrink;
    }
    b.top[r] = highest;
    b.sum[r] += _mm512_reduce_add_ps(_mm512_add_ps(sum0, sum1));
  }

  void finish(const ForwardTask& task, int64_t head, int64_t rows, Block& b) const {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = s_.cu_q[task.segment] + task.first_query + r;
      float factor = 1;
      if (a_.sinks) {
        const float sink = static_cast<const float*>(a_.sinks)[head];
        const float highest = sink > b.top[r] ? sink : b.top[r];
        factor = std::exp(b.top[r] - highest);
        b.sum[r] = b.sum[r] * factor + std::exp(sink - highest);
        b.top[r] = highest;
      }
      const bool sees_nothing = b.sum[r] == 0;
      static_cast<float*>(a_.lse)[head * tokens_ + token] =
          sees_nothing ? -__builtin_inff() : b.top[r] + std::log(b.sum[r]);
      const float scale = sees_nothing ? 0 : factor / b.sum[r];
      bf16* to = static_cast<bf16*>(a_.out) + (token * s_.heads + head) * s_.v_width;
      for (int64_t c = 0; c < s_.v_width; ++c)
        to[c] = narrow<bf16>(b.out[r * plan_.padded_v + c] * scale);
    }
  }

  const AttentionForward& a_;
  const AttentionShape& s_;
  AttentionPlan plan_;
  std::vector<ForwardTask> tasks_;
  float* packed_;
  float* scratch_;
  int64_t tokens_;
};

}  // namespace

void run(const AttentionForward& a) { Forward(a).run(); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
