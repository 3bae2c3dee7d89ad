// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/attention_bf16.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// How a row of a finished softmax ends, from what its exponents are relative to, in powers of 2, and their sum.
struct RowEnd {
  float lse, scale;  ///< scale: for the row's weighted sum of values
};
RowEnd end_row(float top, float sum, const float* sink) {
  top *= kLog2;
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
/// keys. Scores become probabilities in registers where they are bounded.
class Forward : public PairedForward<Forward> {
 public:
  using PairedForward::PairedForward;
  struct Scope {};

  void pack(HeadRows<bf16> k, HeadRows<bf16> v, int64_t keys, PackedKeys to) const {
    pack_along_rows(k.data, k.stride, keys, s_.k_width, to.keys);
    pack_down_rows(v.data, v.stride, keys, s_.v_width, plan_.padded_v, to.values);
    *to.norm = largest_norm(k, keys, s_.k_width);
  }

  void attend(const QueryBlock& block, int64_t heads, PackedKeys from, float* scratch) const {
    for (int64_t i = 0; i < heads; ++i) attend_head(block.of_head(i), from, scratch);
  }

 private:
  /// Running softmax of one block of queries.
  struct Block {
    const uint32_t* q;  // in tiles of kRows
    float* scores;      // [kRows, kForwardKeys]
    bf16* p;            // [kRows, kForwardKeys]
    float* out;         // [kForwardQueries, padded_v]
    bool bounded;
    float top[kForwardQueries], sum[kForwardQueries];  // top: in powers of 2, 0 of bounded scores
  };
  /// The keys of a tile of scores that each row sees.
  struct Seen {
    uint32_t keys[kRows];
    bool all;  // the other rows' are not filled in then
  };

  void attend_head(const QueryBlock& q, PackedKeys from, float* scratch) const {
    Block b;
    b.scores = scratch;
    b.p = reinterpret_cast<bf16*>(b.scores + kRowMultiple * kForwardKeys);
    b.out = b.scores + kRowMultiple * kForwardKeys * 3 / 2;
    auto* queries = reinterpret_cast<uint32_t*>(b.out + kForwardQueries * plan_.padded_v);
    const HeadRows<bf16> rows = q_rows(q);
    pack_row_tiles(rows.data, rows.stride, q.rows, s_.k_width, queries);
    b.q = queries;
    b.bounded = bounded(largest_norm(rows, q.rows, s_.k_width), from);
    const int64_t padded = round_up(q.rows, kRows);
    fill(b.out, b.out + padded * plan_.padded_v, 0.f);
    fill(b.top, b.top + padded, b.bounded ? 0.f : -__builtin_inff());
    fill(b.sum, b.sum + padded, 0.f);
    const auto [first, last] = key_range(s_, q);
    for (int64_t k0 = first; k0 <= last; k0 += kForwardKeys) {
      const int64_t k1 = min_of(last + 1, k0 + kForwardKeys);
      for (int64_t r = 0; r < q.rows; r += kRows) attend_rows(b, r, q.part(r, kRows), k0, k1, from);
    }
    finish(q, b);
  }

  /// The kRows queries from row r on of the block and keys [k0, k1).
  void attend_rows(Block& b, int64_t r, const QueryBlock& rows, int64_t k0, int64_t k1,
                   PackedKeys from) const {
    const int64_t first = max_of(k0, key_range(s_, rows.position, rows.keys).first) /
                          kColumnMultiple * kColumnMultiple;
    const int64_t last =
        min_of(k1 - 1, key_range(s_, rows.position + rows.rows - 1, rows.keys).last);
    if (first > last) return;
    const int64_t columns = round_up(last + 1 - first, kColumns);
    const uint32_t* keys = from.keys + first * s_.k_width / 2;
    if (b.bounded) {
      bounded_probabilities(b, r, rows, first, columns, keys);
    } else {
      probabilities(b, r, rows, first, columns, keys);
    }
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

  /// f(i, left, right) with the products of row i of a tile and kColumns keys.
  template <typename F>
  inline __attribute__((always_inline)) void score(const Block& b, int64_t r, const uint32_t* keys,
                                                   const F& f) const {
    tile_pairs(b.q + r * s_.k_width / 2, 1, kRows, keys, kColumns, s_.k_width / 2, f);
  }

  Seen seen_by(const QueryBlock& rows, int64_t k) const {
    Seen seen;
    seen.all = key_range(s_, rows.position, rows.keys).last >= k + kColumns - 1 &&
               key_range(s_, rows.position + rows.rows - 1, rows.keys).first <= k;
    for (int64_t i = 0; i < kRows && !seen.all; ++i) {
      const KeyRange own = key_range(s_, rows.position + i, rows.keys);
      seen.keys[i] = column_mask(own.first - k, own.last + 1 - k);
    }
    return seen;
  }

  /// Relative to 0, tile by tile.
  void bounded_probabilities(Block& b, int64_t r, const QueryBlock& rows, int64_t first,
                             int64_t columns, const uint32_t* keys) const {
    const __m512 bits = _mm512_set1_ps(factor() * (1 << 23));
    __m512 sums[kRows];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    for (int64_t c = 0; c < columns; c += kColumns, keys += kColumns * s_.k_width / 2) {
      bf16* p = b.p + c;
      const auto put = [&](int i, __m512 left, __m512 right) __attribute__((always_inline)) {
        sums[i] = _mm512_add_ps(sums[i], _mm512_add_ps(left, right));
        store_bf16(p + i * kForwardKeys, left, right);
      };
      const Seen seen = seen_by(rows, first + c);
      if (seen.all) {
        score(
            b, r, keys, [&](int i, __m512 left, __m512 right) __attribute__((always_inline)) {
              put(i, exp2_bounded(_mm512_mul_ps(left, bits)),
                  exp2_bounded(_mm512_mul_ps(right, bits)));
            });
      } else {
        score(
            b, r, keys, [&](int i, __m512 left, __m512 right) __attribute__((always_inline)) {
              put(i,
                  _mm512_maskz_mov_ps(static_cast<__mmask16>(seen.keys[i]),
                                      exp2_bounded(_mm512_mul_ps(left, bits))),
                  _mm512_maskz_mov_ps(static_cast<__mmask16>(seen.keys[i] >> 16),
                                      exp2_bounded(_mm512_mul_ps(right, bits))));
            });
      }
    }
    for (int64_t i = 0; i < kRows; ++i) b.sum[r + i] += _mm512_reduce_add_ps(sums[i]);
  }

  /// Relative to the highest score so far.
  void probabilities(Block& b, int64_t r, const QueryBlock& rows, int64_t first, int64_t columns,
                     const uint32_t* keys) const {
    const __m512 scale = _mm512_set1_ps(factor()), lowest = _mm512_set1_ps(-__builtin_inff());
    __m512 highest[kRows];
    for (__m512& x : highest) x = lowest;
    for (int64_t c = 0; c < columns; c += kColumns, keys += kColumns * s_.k_width / 2) {
      Seen seen = seen_by(rows, first + c);
      if (seen.all) fill(seen.keys, seen.keys + kRows, ~0u);
      score(
          b, r, keys, [&](int i, __m512 left, __m512 right) __attribute__((always_inline)) {
            left = _mm512_mask_mul_ps(lowest, static_cast<__mmask16>(seen.keys[i]), left, scale);
            right = _mm512_mask_mul_ps(lowest, static_cast<__mmask16>(seen.keys[i] >> 16), right,
                                       scale);
            // A NaN is passed over: the first operand's only remains where the second is one too.
            highest[i] = _mm512_max_ps(left, _mm512_max_ps(right, highest[i]));
            set_to(b.scores + i * kForwardKeys + c, left, right);
          });
    }
    for (int64_t i = 0; i < kRows; ++i) {
      raise_top(b, r + i, _mm512_reduce_max_ps(highest[i]));
      exponentiate(b, r + i, b.scores + i * kForwardKeys, columns, b.p + i * kForwardKeys);
    }
  }

  /// Makes what row r has so far relative to `highest` if that is higher.
  void raise_top(Block& b, int64_t r, float highest) const {
    if (!(highest > b.top[r])) return;
    if (b.sum[r] > 0) {
      const float shrink = std::exp2(b.top[r] - highest);
      b.sum[r] *= shrink;
      for (int64_t c = 0; c < plan_.padded_v; ++c) b.out[r * plan_.padded_v + c] *= shrink;
    }
    b.top[r] = highest;
  }

  static void exponentiate(Block& b, int64_t r, const float* scores, int64_t columns, bf16* p) {
    // Where nothing has been seen every score is -infinity.
    const bool nothing = b.top[r] == -__builtin_inff();
    const __m512 shift = _mm512_set1_ps(nothing ? 0.f : b.top[r]);
    __m512 sum0 = _mm512_setzero_ps(), sum1 = sum0;
    for (int64_t c = 0; c < columns; c += kColumns) {
      const __m512 left = exp2_512(_mm512_sub_ps(_mm512_loadu_ps(scores + c), shift)),
                   right = exp2_512(_mm512_sub_ps(_mm512_loadu_ps(scores + c + 16), shift));
      sum0 = _mm512_add_ps(sum0, left);
      sum1 = _mm512_add_ps(sum1, right);
      store_bf16(p + c, left, right);
    }
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
