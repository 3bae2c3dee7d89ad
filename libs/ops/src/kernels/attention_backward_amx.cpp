// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_amx.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// As the generic Backward, in squares of kAmxRows keys and as many queries, a panel. Probabilities and score gradients
/// become rows over queries for dv and dk, and gradients also pairs of neighbouring keys for dq, which is summed
/// transposed.
class Backward : public PairedBackward<Backward> {
 public:
  using PairedBackward::PairedBackward;
  using Scope = TileScope;
  static constexpr int64_t kPanels = kBackwardQueries / kAmxRows;

  struct Scratch : BackwardSums<float> {
    uint32_t *keys, *values;                               // rows: [keys][padded width / 2]
    uint32_t* keys_t;                                      // [keys / kAmxRows][padded_k][kTileSide]
    uint32_t *q_across, *dout_across;                      // [kPanels][padded width / 2][kAmxRows]
    uint32_t *q_down, *dout_down;                          // [kBackwardQueries / 2][padded width]
    float* dq;                                             // [kPanels][padded_k][kAmxRows]
    float *scores, *gradients;                             // one square
    bf16 *p, *ds;                                          // [kAmxRows][kBackwardQueries]
    uint32_t* ds_pairs;                                    // [kPanels][kBackwardKeys / 2][kAmxRows]
    float lse[kBackwardQueries], delta[kBackwardQueries];  // lse: in powers of 2
    uint32_t constant[kPanels];                            // queries that see a single key
    KeyRange seen[kPanels];                                // in whole squares, [first, last)
  };

  Scratch divide(int64_t padded_keys, float* at) const {
    Scratch w;
    Room room{at};
    w.scores = room.floats(kAmxRows * kAmxRows);
    w.gradients = room.floats(kAmxRows * kAmxRows);
    w.p = room.values(kAmxRows * kBackwardQueries);
    w.ds = room.values(kAmxRows * kBackwardQueries);
    w.ds_pairs = room.words(kBackwardQueries * kBackwardKeys / 2);
    w.dq = room.floats(kBackwardQueries * plan_.padded_k);
    w.q_across = room.words(kBackwardQueries * plan_.padded_k / 2);
    w.q_down = room.words(kBackwardQueries * plan_.padded_k / 2);
    w.dout_across = room.words(kBackwardQueries * plan_.padded_v / 2);
    w.dout_down = room.words(kBackwardQueries * plan_.padded_v / 2);
    w.keys = room.words(padded_keys * plan_.padded_k / 2);
    w.keys_t = room.words(padded_keys * plan_.padded_k / 2);
    w.values = room.words(padded_keys * plan_.padded_v / 2);
    w.end = room.at;
    return w;
  }

  void pack(HeadRows<bf16> k, HeadRows<bf16> v, int64_t keys, Scratch& w) const {
    const int64_t padded = round_up(keys, kAmxRows);
    copy_rows(k, keys, s_.k_width, padded, plan_.padded_k, reinterpret_cast<bf16*>(w.keys));
    copy_rows(v, keys, s_.v_width, padded, plan_.padded_v, reinterpret_cast<bf16*>(w.values));
    pack_squares(k, keys, s_.k_width, plan_.padded_k, w.keys_t);
  }

  void run_queries(const QueryBlock& q, Scratch& w) const {
    load_queries(q, w);
    int64_t first = w.seen[0].first, last = 0;
    for (int64_t i = 0; i < panels(q); ++i) last = max_of(last, w.seen[i].last);
    for (int64_t k0 = first; k0 < last; k0 += kBackwardKeys) {
      const int64_t k1 = min_of(last, k0 + kBackwardKeys);
      for (int64_t k = k0; k < k1; k += kAmxRows) key_gradients(q, k0, k, w);
      for (int64_t i = 0; i < panels(q); ++i) query_gradients(i, k0, k1, w);
    }
    const int64_t stride = s_.heads * s_.k_width;
    for (int64_t i = 0; i < panels(q); ++i) {
      write_transposed(w.dq + i * plan_.padded_k * kAmxRows, q.rows - i * kAmxRows, s_.k_width,
                       all_lanes(scale()), dq(q) + i * kAmxRows * stride, stride);
    }
  }

 private:
  static int64_t panels(const QueryBlock& q) { return (q.rows + kAmxRows - 1) / kAmxRows; }

  void load_queries(const QueryBlock& q, Scratch& w) const {
    const int64_t padded = panels(q) * kAmxRows;
    const HeadRows<bf16> queries = q_rows(q), dout = dout_rows(q);
    for (int64_t i = 0; i < panels(q); ++i) {
      const QueryBlock part = q.part(i * kAmxRows, kAmxRows);
      pack_columns(q_rows(part), part.rows, s_.k_width, plan_.padded_k,
                   w.q_across + i * plan_.padded_k / 2 * kAmxRows);
      pack_columns(dout_rows(part), part.rows, s_.v_width, plan_.padded_v,
                   w.dout_across + i * plan_.padded_v / 2 * kAmxRows);
      w.seen[i] = squares_of(part);
      w.constant[i] = constant_of(part);
    }
    pack_pairs_down(queries, q.rows, s_.k_width, padded, plan_.padded_k, w.q_down);
    pack_pairs_down(dout, q.rows, s_.v_width, padded, plan_.padded_v, w.dout_down);
    fill(w.dq, w.dq + padded * plan_.padded_k, 0.f);
    load_rows(q, padded, kLog2E, w.lse, w.delta);
  }

  KeyRange squares_of(const QueryBlock& panel) const {
    const int64_t first = key_range(s_, panel.position, panel.keys).first / kAmxRows * kAmxRows,
                  last = key_range(s_, panel.position + panel.rows - 1, panel.keys).last;
    return {first, max_of(first, round_up(last + 1, kAmxRows))};
  }
  uint32_t constant_of(const QueryBlock& panel) const {
    uint32_t bits = 0;
    for (int64_t i = 0; i < panel.rows; ++i) {
      if (is_constant(key_range(s_, panel.position + i, panel.keys))) bits |= uint32_t{1} << i;
    }
    return bits;
  }

  /// Adds to dk and dv of kAmxRows keys from k on.
  void key_gradients(const QueryBlock& q, int64_t k0, int64_t k, Scratch& w) const {
    int64_t first = kPanels, end = 0;
    for (int64_t i = 0; i < panels(q); ++i) {
      if (k < w.seen[i].first || k >= w.seen[i].last) continue;
      first = min_of(first, i);
      end = i + 1;
      score_square(q, k0, k, i, w);
    }
    if (first >= end) return;
    sum_over_queries(w.p, first, end, w.dout_down, plan_.padded_v, w.dv + k * plan_.padded_v);
    sum_over_queries(w.ds, first, end, w.q_down, plan_.padded_k, w.dk + k * plan_.padded_k);
  }

  /// sums[j, :] += Σ_r weights[j, r] · x[r, :] over the queries of panels [first, end).
  static void sum_over_queries(const bf16* weights, int64_t first, int64_t end, const uint32_t* x,
                               int64_t width, float* sums) {
    for (int64_t c = 0; c < width; c += kAmxRows) {
      load_sums(sums + c, width);
      add_steps(words(weights) + first * kTileSide, kBackwardQueries / 2, kTileSide,
                x + first * kTileSide * width + c, width, end - first);
      store_sums(sums + c, width);
    }
  }

  void query_gradients(int64_t panel, int64_t k0, int64_t k1, const Scratch& w) const {
    const int64_t first = max_of(k0, w.seen[panel].first), last = min_of(k1, w.seen[panel].last);
    if (first >= last) return;
    const uint32_t* pairs = w.ds_pairs + (panel * kBackwardKeys + first - k0) / 2 * kAmxRows;
    for (int64_t c = 0; c < plan_.padded_k; c += kAmxRows) {
      float* sums = w.dq + (panel * plan_.padded_k + c) * kAmxRows;
      load_sums(sums, kAmxRows);
      add_steps(w.keys_t + (first / kAmxRows * plan_.padded_k + c) * kTileSide, kTileSide,
                plan_.padded_k * kTileSide, pairs, kAmxRows, (last - first) / kTileTerms);
      store_sums(sums, kAmxRows);
    }
  }

  /// Probabilities and score gradients of a panel and kAmxRows keys from k on.
  void score_square(const QueryBlock& q, int64_t k0, int64_t k, int64_t panel, Scratch& w) const {
    multiply(w.keys, plan_.padded_k, k, w.q_across, panel, w.scores);
    multiply(w.values, plan_.padded_v, k, w.dout_across, panel, w.gradients);
    const int64_t position = q.position + panel * kAmxRows;
    const bool whole = query_range(s_, k + kAmxRows - 1, position).first <= 0 &&
                       query_range(s_, k, position).last >= kAmxRows - 1 && k + kAmxRows <= q.keys;
    uint32_t* pairs = w.ds_pairs + (panel * kBackwardKeys + k - k0) / 2 * kAmxRows;
    if (whole) {
      differentiate(w, panel, pairs, [](int64_t) { return ~uint32_t{0}; });
    } else {
      differentiate(w, panel, pairs, [&](int64_t j) {
        const QueryRange seen = query_range(s_, k + j, position);
        return k + j < q.keys ? column_mask(seen.first, seen.last + 1) : 0;
      });
    }
  }

  /// out = the products of kAmxRows rows from `row` on and a panel.
  static void multiply(const uint32_t* rows, int64_t width, int64_t row, const uint32_t* across,
                       int64_t panel, float* out) {
    zero_sums();
    add_steps(rows + row * width / 2, width / 2, kTileSide, across + panel * width / 2 * kAmxRows,
              kAmxRows, width / kTileTerms);
    store_sums(out, kAmxRows);
  }

  /// mask(j): the panel's queries that see key j of the square.
  template <typename Mask>
  void differentiate(const Scratch& w, int64_t panel, uint32_t* pairs, const Mask& mask) const {
    const Lanes lse = load_lanes(w.lse + panel * kAmxRows),
                delta = load_lanes(w.delta + panel * kAmxRows);
    const __m512 factor = _mm512_set1_ps(scale() * kLog2E);
    for (int64_t j = 0; j < kAmxRows; j += 2, pairs += kAmxRows) {
      Lanes ds[2];
      for (int64_t i = 0; i < 2; ++i) {
        const Lanes s = load_lanes(w.scores + (j + i) * kAmxRows),
                    g = load_lanes(w.gradients + (j + i) * kAmxRows);
        const uint32_t seen = mask(j + i), moves = seen & ~w.constant[panel];
        const auto probability = [&](uint32_t m, __m512 x, __m512 shift) {
          return _mm512_maskz_mov_ps(static_cast<__mmask16>(m),
                                     exp2_512(_mm512_fmsub_ps(x, factor, shift)));
        };
        const auto gradient = [&](uint32_t m, __m512 x, __m512 shift, __m512 p) {
          return _mm512_maskz_mul_ps(static_cast<__mmask16>(m), p, _mm512_sub_ps(x, shift));
        };
        const Lanes p = {probability(seen, s.left, lse.left),
                         probability(seen >> 16, s.right, lse.right)};
        ds[i] = {gradient(moves, g.left, delta.left, p.left),
                 gradient(moves >> 16, g.right, delta.right, p.right)};
        const int64_t at = (j + i) * kBackwardQueries + panel * kAmxRows;
        store_bf16(w.p + at, p.left, p.right);
        store_bf16(w.ds + at, ds[i].left, ds[i].right);
      }
      store_pairs(pairs, ds[0], ds[1]);
    }
  }
};

}  // namespace

void run(const AttentionBackward& a) { Backward(a).run(); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
