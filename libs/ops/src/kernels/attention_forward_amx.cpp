// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_amx.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// Keys stay rows, values are turned; kAmxRows queries of a head at a time, a panel, pass over them in chunks.
class Forward : public PairedForward<Forward> {
 public:
  using PairedForward::PairedForward;
  using Scope = TileScope;

  void pack(HeadRows<bf16> k, HeadRows<bf16> v, int64_t keys, PackedKeys to) const {
    copy_rows(k, keys, s_.k_width, round_up(keys, kAmxRows), plan_.padded_k,
              reinterpret_cast<bf16*>(to.keys));
    pack_squares(v, keys, s_.v_width, plan_.padded_v, to.values);
    *to.norm = largest_norm(k, keys, s_.k_width);
  }

  void attend(const QueryBlock& block, int64_t heads, PackedKeys from, float* scratch) const {
    for (int64_t i = 0; i < heads; ++i) {
      for (int64_t r = 0; r < block.rows; r += kAmxRows)
        attend_panel(block.of_head(i).part(r, kAmxRows), from, scratch);
    }
  }

 private:
  /// Running softmax, one lane a query.
  struct Panel {
    const QueryBlock& block;
    float* scores;   // [kAmxForwardKeys][kAmxRows]; then pairs of probabilities in every other row
    float* out;      // [padded_v][kAmxRows]
    uint32_t* q;     // [padded_k / 2][kAmxRows]
    Lanes top, sum;  // top: what exponents are relative to, in powers of 2
    bool bounded;    // scores are so small that they need not be relative to the highest
  };
  /// Of a chunk's scores.
  struct Scores {
    Lanes highest;    // before they are scaled; not if they are bounded
    uint32_t hidden;  // squares of which some are
  };

  void attend_panel(const QueryBlock& block, PackedKeys from, float* scratch) const {
    float* out = scratch + kAmxForwardKeys * kAmxRows;
    Panel x{block,
            scratch,
            out,
            reinterpret_cast<uint32_t*>(out + plan_.padded_v * kAmxRows),
            all_lanes(-__builtin_inff()),
            all_lanes(0),
            false};
    pack_columns(q_rows(block), block.rows, s_.k_width, plan_.padded_k, x.q);
    x.bounded = bounded(largest_norm(x.q, plan_.padded_k), from);
    if (x.bounded) x.top = all_lanes(0);
    const int64_t first =
        max_of(0, key_range(s_, block.position, block.keys).first) / kAmxRows * kAmxRows;
    const int64_t last = key_range(s_, block.position + block.rows - 1, block.keys).last;
    if (first > last) fill(x.out, x.out + plan_.padded_v * kAmxRows, 0.f);
    for (int64_t k0 = first; k0 <= last; k0 += kAmxForwardKeys) {
      const int64_t count = round_up(min_of(last + 1 - k0, kAmxForwardKeys), kAmxRows);
      const Scores scores = score(x, k0, count, from.keys);
      if (!x.bounded) raise_top(x, scores.highest, k0 > first);
      exponentiate(x, count, scores.hidden);
      add_values(x, count, from.values + k0 / 2 * plan_.padded_v, k0 > first);
    }
    finish(x);
  }

  Scores score(const Panel& x, int64_t k0, int64_t count, const uint32_t* keys) const {
    const int64_t stride = plan_.padded_k / 2;
    Scores result{all_lanes(-__builtin_inff()), 0};
    const bool stays = stride == 2 * kTileSide;
    if (stays) load_panel(x.q);
    for (int64_t k = 0; k < count; k += kAmxRows) {
      float* scores = x.scores + k * kAmxRows;
      const uint32_t* rows = keys + (k0 + k) * stride;
      if (stays) {
        score_half(rows, scores);
        score_half(rows + kTileSide * stride, scores + kTileSide * kAmxRows);
      } else {
        zero_sums();
        add_steps(rows, stride, kTileSide, x.q, kAmxRows, stride / kTileSide);
        store_sums(scores, kAmxRows);
      }
      if (hide_unseen(x.block, k0 + k, scores)) result.hidden |= uint32_t{1} << (k / kAmxRows);
      if (!x.bounded) result.highest = highest_of(scores, result.highest);
    }
    return result;
  }

  /// Queries of 64 terms fit into four tiles and stay there.
  static void load_panel(const uint32_t* q) {
    load_tile<4>(q, kAmxRows * 4);
    load_tile<5>(q + kTileSide, kAmxRows * 4);
    load_tile<6>(q + kTileSide * kAmxRows, kAmxRows * 4);
    load_tile<7>(q + kTileSide * kAmxRows + kTileSide, kAmxRows * 4);
  }
  /// Scores of kTileSide keys of 64 terms.
  static void score_half(const uint32_t* keys, float* scores) {
    constexpr int64_t kStride = 2 * kTileSide * 4;
    zero_tile<0>();
    zero_tile<1>();
    load_tile<2>(keys, kStride);
    load_tile<3>(keys + kTileSide, kStride);
    multiply_tiles<0, 2, 4>();
    multiply_tiles<1, 2, 5>();
    multiply_tiles<0, 3, 6>();
    multiply_tiles<1, 3, 7>();
    store_tile<0>(scores, kAmxRows * 4);
    store_tile<1>(scores + kTileSide, kAmxRows * 4);
  }

  static Lanes highest_of(const float* square, Lanes highest) {
    for (int64_t j = 0; j < kAmxRows; ++j) {
      const Lanes s = load_lanes(square + j * kAmxRows);
      // A NaN is passed over: the first operand's only remains where the second is one too.
      highest = {_mm512_max_ps(s.left, highest.left), _mm512_max_ps(s.right, highest.right)};
    }
    return highest;
  }

  /// Says whether there were any.
  bool hide_unseen(const QueryBlock& block, int64_t k, float* scores) const {
    const __m512 hidden = _mm512_set1_ps(-__builtin_inff());
    if (query_range(s_, k + kAmxRows - 1, block.position).first <= 0 &&
        query_range(s_, k, block.position).last >= kAmxRows - 1 && k + kAmxRows <= block.keys)
      return false;
    for (int64_t j = 0; j < kAmxRows; ++j, scores += kAmxRows) {
      const QueryRange seen = query_range(s_, k + j, block.position);
      const uint32_t unseen =
          k + j < block.keys ? ~column_mask(seen.first, seen.last + 1) : ~uint32_t{0};
      _mm512_mask_storeu_ps(scores, static_cast<__mmask16>(unseen), hidden);
      _mm512_mask_storeu_ps(scores + 16, static_cast<__mmask16>(unseen >> 16), hidden);
    }
    return true;
  }

  /// Makes exponents and earlier sums relative to the highest score where exponents would become large.
  void raise_top(Panel& x, Lanes highest, bool has_sums) const {
    constexpr float kLarge = 8;
    const __m512 f = _mm512_set1_ps(factor()), large = _mm512_set1_ps(kLarge);
    const Lanes here = {_mm512_mul_ps(highest.left, f), _mm512_mul_ps(highest.right, f)};
    const auto rises = [&](__m512 score, __m512 top) {
      return _mm512_cmp_ps_mask(score, _mm512_add_ps(top, large), _CMP_GT_OQ) != 0;
    };
    if (!rises(here.left, x.top.left) && !rises(here.right, x.top.right)) return;
    const Lanes top = {_mm512_max_ps(here.left, x.top.left),
                       _mm512_max_ps(here.right, x.top.right)};
    const Lanes shift = shift_of(top);
    const Lanes by = {exp2_512(_mm512_sub_ps(x.top.left, shift.left)),
                      exp2_512(_mm512_sub_ps(x.top.right, shift.right))};
    x.sum = {_mm512_mul_ps(x.sum.left, by.left), _mm512_mul_ps(x.sum.right, by.right)};
    x.top = top;
    for (int64_t c = 0; c < plan_.padded_v && has_sums; ++c) {
      float* out = x.out + c * kAmxRows;
      const Lanes old = load_lanes(out);
      set_to(out, _mm512_mul_ps(old.left, by.left), _mm512_mul_ps(old.right, by.right));
    }
  }
  /// top, but 0 where no score has been seen.
  static Lanes shift_of(Lanes top) {
    const auto shift = [](__m512 x) {
      return _mm512_maskz_mov_ps(
          _mm512_cmp_ps_mask(x, _mm512_set1_ps(-__builtin_inff()), _CMP_NEQ_UQ), x);
    };
    return {shift(top.left), shift(top.right)};
  }

  /// Scores become pairs of probabilities relative to the panel's top.
  void exponentiate(Panel& x, int64_t count, uint32_t hidden) const {
    const Lanes shift = shift_of(x.top);
    const __m512 f = _mm512_set1_ps(factor()), bits = _mm512_set1_ps(factor() * (1 << 23));
    Lanes sum = x.sum;
    for (int64_t k = 0; k < count; k += kAmxRows, hidden >>= 1) {
      float* scores = x.scores + k * kAmxRows;
      if (x.bounded && !(hidden & 1)) {
        exponentiate_square(scores, sum, [&](Lanes s) {
          return Lanes{exp2_bounded(_mm512_mul_ps(s.left, bits)),
                       exp2_bounded(_mm512_mul_ps(s.right, bits))};
        });
      } else {
        exponentiate_square(scores, sum, [&](Lanes s) {
          return Lanes{exp2_512(_mm512_fmsub_ps(s.left, f, shift.left)),
                       exp2_512(_mm512_fmsub_ps(s.right, f, shift.right))};
        });
      }
    }
    x.sum = sum;
  }

  template <typename F>
  static inline __attribute__((always_inline)) void exponentiate_square(float* scores, Lanes& sum,
                                                                        const F& probability) {
    for (int64_t j = 0; j < kAmxRows; j += 2, scores += 2 * kAmxRows) {
      const Lanes top = probability(load_lanes(scores)),
                  below = probability(load_lanes(scores + kAmxRows));
      sum = {_mm512_add_ps(sum.left, _mm512_add_ps(top.left, below.left)),
             _mm512_add_ps(sum.right, _mm512_add_ps(top.right, below.right))};
      store_pairs(reinterpret_cast<uint32_t*>(scores), top, below);
    }
  }

  void add_values(const Panel& x, int64_t count, const uint32_t* values, bool has_sums) const {
    const auto* pairs = reinterpret_cast<const uint32_t*>(x.scores);
    for (int64_t c = 0; c < plan_.padded_v; c += kAmxRows) {
      float* out = x.out + c * kAmxRows;
      if (has_sums) {
        load_sums(out, kAmxRows);
      } else {
        zero_sums();
      }
      add_steps(values + c * kTileSide, kTileSide, plan_.padded_v * kTileSide, pairs, 2 * kAmxRows,
                count / kTileTerms);
      store_sums(out, kAmxRows);
    }
  }

  void finish(const Panel& panel) const {
    const QueryBlock& block = panel.block;
    const End left = end_of(panel.top.left, panel.sum.left, block.head),
              right = end_of(panel.top.right, panel.sum.right, block.head);
    const uint32_t exists = column_mask(0, block.rows);
    _mm512_mask_storeu_ps(lse(block), static_cast<__mmask16>(exists), left.lse);
    _mm512_mask_storeu_ps(lse(block) + 16, static_cast<__mmask16>(exists >> 16), right.lse);
    write_transposed(panel.out, block.rows, s_.v_width, {left.scale, right.scale},
                     out_row(block, 0), s_.heads * s_.v_width);
  }

  /// How a softmax ends; scale: of its weighted sum of values.
  struct End {
    __m512 lse, scale;
  };
  End end_of(__m512 top, __m512 sum, int64_t head) const {
    const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
    const auto sees_nothing = [&] {
      return _mm512_cmp_ps_mask(sum, _mm512_setzero_ps(), _CMP_EQ_OQ);  // not where it is NaN
    };
    top = _mm512_mask_mov_ps(top, sees_nothing(), nothing);
    __m512 factor = _mm512_set1_ps(1.f);
    if (a_.sinks) {
      const __m512 sink = _mm512_set1_ps(static_cast<const float*>(a_.sinks)[head] * kLog2E),
                   highest = _mm512_max_ps(sink, top);
      factor = exp2_512(_mm512_sub_ps(top, highest));
      sum = _mm512_fmadd_ps(sum, factor, exp2_512(_mm512_sub_ps(sink, highest)));
      top = highest;
    }
    const __m512 value = _mm512_fmadd_ps(top, _mm512_set1_ps(kLog2), log_512(sum));
    return {_mm512_mask_mov_ps(value, sees_nothing(), nothing),
            _mm512_maskz_div_ps(static_cast<__mmask16>(~sees_nothing()), factor, sum)};
  }
};

}  // namespace

void run(const AttentionForward& a) { Forward(a).run(); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
