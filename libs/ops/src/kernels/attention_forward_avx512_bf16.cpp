// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/attention_bf16.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// How a row of a finished softmax ends, from its highest score and the sum relative to it.
struct RowEnd {
  float lse, scale;  ///< scale: for the row's weighted sum of values
};
RowEnd end_row(float top, float sum, const float* sink) {
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

/// As the generic Forward; keys are packed along rows, values and probabilities pair neighbouring
/// keys.
class Forward : public ForwardDriver<Forward> {
 public:
  using ForwardDriver::ForwardDriver;
  struct Scope {};

  void pack(HeadRows k, HeadRows v, int64_t keys, PackedKeys to) const {
    pack_along_rows(k.data, k.stride, keys, s_.k_width, to.keys);
    pack_down_rows(v.data, v.stride, keys, s_.v_width, plan_.padded_v, to.values);
  }

  void attend(const QueryBlock& block, int64_t heads, PackedKeys from, float* scratch) const {
    for (int64_t i = 0; i < heads; ++i) attend_head(block.of_head(i), from, scratch);
  }

 private:
  /// Running softmax of one block of queries.
  struct Block {
    const bf16* q;
    float* scores;  // [kRows, kForwardKeys]
    bf16* p;        // [kRows, kForwardKeys]
    float* out;     // [kForwardQueries, padded_v]
    float top[kForwardQueries], sum[kForwardQueries];
  };

  void attend_head(const QueryBlock& q, PackedKeys from, float* scratch) const {
    Block b;
    b.scores = scratch;
    b.p = reinterpret_cast<bf16*>(b.scores + kRowMultiple * kForwardKeys);
    b.out = b.scores + kRowMultiple * kForwardKeys * 3 / 2;
    b.q = load_queries(q, b.out + kForwardQueries * plan_.padded_v);
    fill(b.out, b.out + round_up(q.rows, kRows) * plan_.padded_v, 0.f);
    fill(b.top, b.top + q.rows, -__builtin_inff());
    fill(b.sum, b.sum + q.rows, 0.f);
    const int64_t first =
        max_of(0, key_range(s_, q.position, q.keys).first) / kColumnMultiple * kColumnMultiple;
    const int64_t last = key_range(s_, q.position + q.rows - 1, q.keys).last;
    for (int64_t k0 = first; k0 <= last; k0 += kForwardKeys) {
      const int64_t k1 = min_of(last + 1, k0 + kForwardKeys);
      for (int64_t r = 0; r < q.rows; r += kRows)
        attend_rows(b, r, min_of(kRows, q.rows - r), q.position + r, q.keys, k0, k1, from);
    }
    finish(q, b);
  }

  /// The block's queries, with zero rows up to a whole tile.
  const bf16* load_queries(const QueryBlock& q, float* to) const {
    auto* rows = reinterpret_cast<bf16*>(to);
    copy_rows(head_rows(a_.q, s_.heads, s_.k_width, q.token, q.head), q.rows, s_.k_width,
              round_up(q.rows, kRows), s_.k_width, rows);
    return rows;
  }

  void attend_rows(Block& b, int64_t r, int64_t rows, int64_t position, int64_t keys, int64_t k0,
                   int64_t k1, PackedKeys from) const {
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

  void finish(const QueryBlock& q, const Block& b) const {
    for (int64_t r = 0; r < q.rows; ++r) {
      const RowEnd end = end_row(b.top[r], b.sum[r], sink(q.head));
      lse(q)[r] = end.lse;
      bf16* to = out_row(q, r);
      for (int64_t c = 0; c < s_.v_width; ++c)
        to[c] = narrow<bf16>(b.out[r * plan_.padded_v + c] * end.scale);
    }
  }
};

}  // namespace

void run(const AttentionForward& a) { Forward(a).run(); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
