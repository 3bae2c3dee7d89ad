// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_amx.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// Keys stay rows, values are turned; kAmxRows queries at a time pass over them.
class Forward : public ForwardDriver<Forward> {
 public:
  using ForwardDriver::ForwardDriver;
  using Scope = TileScope;

  void pack(HeadRows k, HeadRows v, int64_t keys, PackedKeys to) const {
    copy_rows(k, keys, s_.k_width, round_up(keys, kAmxRows), plan_.padded_k,
              reinterpret_cast<bf16*>(to.keys));
    pack_squares(v, keys, s_.v_width, plan_.padded_v, to.values);
  }

  void attend(const QueryBlock& block, PackedKeys from, float* scratch) const {
    for (int64_t r = 0; r < block.rows; r += kAmxRows)
      attend_lanes(block.part(r, kAmxRows), from, scratch);
  }

 private:
  /// Running softmax of one lane a query.
  struct Softmax {
    float* scores;   // [kAmxForwardKeys][kAmxRows]; then pairs of probabilities in every other row
    float* out;      // [padded_v][kAmxRows]
    uint32_t* q;     // [padded_k / 2][kAmxRows]
    Lanes top, sum;  // top: the highest score before it is scaled
  };

  void attend_lanes(const QueryBlock& block, PackedKeys from, float* scratch) const {
    Softmax x;
    x.scores = scratch;
    x.out = x.scores + kAmxForwardKeys * kAmxRows;
    x.q = reinterpret_cast<uint32_t*>(x.out + plan_.padded_v * kAmxRows);
    x.top = all_lanes(-__builtin_inff());
    x.sum = all_lanes(0);
    pack_columns(head_rows(a_.q, s_.heads, s_.k_width, block.token, block.head), block.rows,
                 s_.k_width, plan_.padded_k, x.q);
    const int64_t first =
        max_of(0, key_range(s_, block.position, block.keys).first) / kAmxRows * kAmxRows;
    const int64_t last = key_range(s_, block.position + block.rows - 1, block.keys).last;
    if (first > last) fill(x.out, x.out + plan_.padded_v * kAmxRows, 0.f);
    for (int64_t k0 = first; k0 <= last; k0 += kAmxForwardKeys) {
      const int64_t count = round_up(min_of(last + 1 - k0, kAmxForwardKeys), kAmxRows);
      const Lanes top = score_keys(block, k0, count, from.keys, x);
      if (k0 > first) shrink_to(top, x);
      x.top = top;
      exponentiate(count, x);
      add_values(k0 == first, count, from.values + k0 / 2 * plan_.padded_v, x);
    }
    finish(block, x);
  }

  /// Scores of `count` keys, and the highest so far.
  Lanes score_keys(const QueryBlock& block, int64_t k0, int64_t count, const uint32_t* keys,
                   const Softmax& x) const {
    const int64_t stride = plan_.padded_k / 2;
    Lanes top = x.top;
    for (int64_t k = 0; k < count; k += kAmxRows) {
      float* scores = x.scores + k * kAmxRows;
      zero_sums();
      add_steps(keys + (k0 + k) * stride, stride, kTileSide, x.q, kAmxRows,
                plan_.padded_k / kTileTerms);
      store_sums(scores, kAmxRows);
      hide_unseen(block, k0 + k, scores);
      for (int64_t j = 0; j < kAmxRows; ++j) {
        const Lanes s = load_lanes(scores + j * kAmxRows);
        // A NaN is passed over: the first operand's only remains where the second is one too.
        top = {_mm512_max_ps(s.left, top.left), _mm512_max_ps(s.right, top.right)};
      }
    }
    return top;
  }

  void hide_unseen(const QueryBlock& block, int64_t k, float* scores) const {
    const __m512 hidden = _mm512_set1_ps(-__builtin_inff());
    if (query_range(s_, k + kAmxRows - 1, block.position).first <= 0 &&
        query_range(s_, k, block.position).last >= kAmxRows - 1 && k + kAmxRows <= block.keys)
      return;
    for (int64_t j = 0; j < kAmxRows; ++j, scores += kAmxRows) {
      const QueryRange seen = query_range(s_, k + j, block.position);
      const uint32_t unseen =
          k + j < block.keys ? ~column_mask(seen.first, seen.last + 1) : ~uint32_t{0};
      _mm512_mask_storeu_ps(scores, static_cast<__mmask16>(unseen), hidden);
      _mm512_mask_storeu_ps(scores + 16, static_cast<__mmask16>(unseen >> 16), hidden);
    }
  }

  float factor() const { return static_cast<float>(s_.scale) * kLog2E; }

  /// What scores' exponents are relative to: the highest, but 0 where none is seen.
  Lanes shift_of(Lanes top) const {
    const auto shift = [this](__m512 x) {
      const __mmask16 seen = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-__builtin_inff()), _CMP_NEQ_UQ);
      return _mm512_maskz_mul_ps(seen, x, _mm512_set1_ps(factor()));
    };
    return {shift(top.left), shift(top.right)};
  }

  /// Makes sums relative to a new highest score.
  void shrink_to(Lanes top, Softmax& x) const {
    if (_mm512_cmp_ps_mask(top.left, x.top.left, _CMP_NEQ_UQ) == 0 &&
        _mm512_cmp_ps_mask(top.right, x.top.right, _CMP_NEQ_UQ) == 0)
      return;
    const Lanes shift = shift_of(top);
    const __m512 f = _mm512_set1_ps(factor());
    const Lanes by = {exp2_512(_mm512_fmsub_ps(x.top.left, f, shift.left)),
                      exp2_512(_mm512_fmsub_ps(x.top.right, f, shift.right))};
    x.sum = {_mm512_mul_ps(x.sum.left, by.left), _mm512_mul_ps(x.sum.right, by.right)};
    for (int64_t c = 0; c < plan_.padded_v; ++c) {
      float* out = x.out + c * kAmxRows;
      const Lanes old = load_lanes(out);
      set_to(out, _mm512_mul_ps(old.left, by.left), _mm512_mul_ps(old.right, by.right));
    }
  }

  /// Scores become pairs of probabilities relative to the highest score.
  void exponentiate(int64_t count, Softmax& x) const {
    const Lanes shift = shift_of(x.top);
    const __m512 f = _mm512_set1_ps(factor());
    const auto probability = [&](const float* scores) {
      const Lanes s = load_lanes(scores);
      return Lanes{exp2_512(_mm512_fmsub_ps(s.left, f, shift.left)),
                   exp2_512(_mm512_fmsub_ps(s.right, f, shift.right))};
    };
    Lanes sum = x.sum;
    for (int64_t k = 0; k < count; k += 2) {
      float* scores = x.scores + k * kAmxRows;
      const Lanes top = probability(scores), below = probability(scores + kAmxRows);
      sum = {_mm512_add_ps(sum.left, _mm512_add_ps(top.left, below.left)),
             _mm512_add_ps(sum.right, _mm512_add_ps(top.right, below.right))};
      store_pairs(reinterpret_cast<uint32_t*>(scores), top, below);
    }
    x.sum = sum;
  }

  void add_values(bool first, int64_t count, const uint32_t* values, const Softmax& x) const {
    const auto* pairs = reinterpret_cast<const uint32_t*>(x.scores);
    for (int64_t c = 0; c < plan_.padded_v; c += kAmxRows) {
      float* out = x.out + c * kAmxRows;
      if (first) {
        zero_sums();
      } else {
        load_sums(out, kAmxRows);
      }
      add_steps(values + c * kTileSide, kTileSide, plan_.padded_v * kTileSide, pairs, 2 * kAmxRows,
                count / kTileTerms);
      store_sums(out, kAmxRows);
    }
  }

  void finish(const QueryBlock& block, const Softmax& x) const {
    float top[kAmxRows], sum[kAmxRows], scale[kAmxRows];
    set_to(top, x.top.left, x.top.right);
    set_to(sum, x.sum.left, x.sum.right);
    for (int64_t i = 0; i < kAmxRows; ++i) {
      const RowEnd end = end_row(top[i] * static_cast<float>(s_.scale), sum[i], sink(block.head));
      scale[i] = end.scale;
      if (i < block.rows) write_lse(block, i, end.lse);
    }
    write_transposed(x.out, block.rows, s_.v_width, load_lanes(scale), out_row(block, 0),
                     s_.heads * s_.v_width);
  }
};

}  // namespace

void run(const AttentionForward& a) { Forward(a).run(); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
