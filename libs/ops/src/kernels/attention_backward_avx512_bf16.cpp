// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_bf16.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// As the generic Backward. Probabilities and score gradients are kept as bfloat16, paired along
/// the reduction that reads them: along keys for dq, along queries for dk and dv.
class Backward : public PairedBackward<Backward> {
 public:
  using PairedBackward::PairedBackward;
  struct Scope {};
  struct Scratch : BackwardSums<float> {
    uint32_t *keys_t, *values_t;   // paired along rows: [panel][width / 2][kColumns]
    uint32_t* keys;                // paired down rows: [keys / 2][padded_k]
    uint32_t *q, *dout;            // one block of queries in tiles of kRows
    uint32_t *q_down, *dout_down;  // the same, paired down rows, to whole tiles
    float* dq;
    uint32_t *p_pairs, *ds_pairs;  // [kBackwardQueries / 2][kBackwardKeys], paired along queries
    bf16* ds;                      // [kBackwardQueries][kBackwardKeys]
    float delta[kBackwardQueries], lse[kBackwardQueries];
  };

  Scratch divide(int64_t padded_keys, float* at) const {
    Scratch w;
    Room room{at};
    w.dq = room.floats(kBackwardQueries * plan_.padded_k);
    w.q = room.words(kBackwardQueries * s_.k_width / 2);
    w.dout = room.words(kBackwardQueries * s_.v_width / 2);
    w.q_down = room.words(kBackwardQueries / 2 * plan_.padded_k);
    w.dout_down = room.words(kBackwardQueries / 2 * plan_.padded_v);
    w.p_pairs = room.words(kBackwardQueries / 2 * kBackwardKeys);
    w.ds_pairs = room.words(kBackwardQueries / 2 * kBackwardKeys);
    w.ds = room.values(kBackwardQueries * kBackwardKeys);
    w.keys_t = room.words(padded_keys * s_.k_width / 2);
    w.values_t = room.words(padded_keys * s_.v_width / 2);
    w.keys = room.words(padded_keys / 2 * plan_.padded_k);
    w.end = room.at;
    return w;
  }

  void pack(HeadRows<bf16> k, HeadRows<bf16> v, int64_t keys, Scratch& w) const {
    pack_along_rows(k.data, k.stride, keys, s_.k_width, w.keys_t);
    pack_along_rows(v.data, v.stride, keys, s_.v_width, w.values_t);
    pack_down_rows(k.data, k.stride, keys, s_.k_width, plan_.padded_k, w.keys);
  }

  void run_queries(const QueryBlock& q, Scratch& w) const {
    load_queries(q, w);
    const auto [first, last] = key_range(s_, q);
    for (int64_t k0 = first; k0 <= last; k0 += kBackwardKeys)
      run_tile({q.position, q.rows, q.keys, k0, min_of(last + 1, k0 + kBackwardKeys)}, w);
    write_dq(q, w.dq);
  }

 private:
  /// A block of queries and the tile of keys at hand.
  struct Tile {
    int64_t position, rows, keys, k0, k1;
  };

  void load_queries(const QueryBlock& q, Scratch& w) const {
    const int64_t padded = round_up(q.rows, kRows);
    const HeadRows<bf16> queries = q_rows(q), dout = dout_rows(q);
    // In the order of the scratch: what a call writes too much the next one overwrites.
    pack_row_tiles(queries.data, queries.stride, q.rows, s_.k_width, w.q);
    pack_row_tiles(dout.data, dout.stride, q.rows, s_.v_width, w.dout);
    pack_pairs_down(queries, q.rows, s_.k_width, padded, plan_.padded_k, w.q_down);
    pack_pairs_down(dout, q.rows, s_.v_width, padded, plan_.padded_v, w.dout_down);
    fill(w.dq, w.dq + padded * plan_.padded_k, 0.f);
    load_rows(q, padded, kLog2E, w.lse, w.delta);
  }

  void run_tile(const Tile& t, Scratch& w) const {
    const int64_t padded = round_up(t.rows, kRows);
    const bool all_computed = t.k1 - t.k0 == kBackwardKeys &&
                              key_range(s_, t.position, t.keys).last >= t.k1 - 1 &&
                              key_range(s_, t.position + t.rows - 1, t.keys).first <= t.k0;
    if (!all_computed) {
      std::memset(w.p_pairs, 0, padded / 2 * kBackwardKeys * sizeof(uint32_t));
      std::memset(w.ds_pairs, 0, padded / 2 * kBackwardKeys * sizeof(uint32_t));
    }
    for (int64_t r = 0; r < padded; r += kRows) query_gradients(t, r, w);
    for (int64_t j = 0; j < t.k1 - t.k0; j += kRows) {
      // Causal: rows before the first that sees key k0 + j have probability 0.
      const int64_t row =
          s_.causal ? min_of(padded, max_of(0, t.k0 + j - t.position) / kRows * kRows) : 0;
      sum_over_queries(w.p_pairs + j, row, padded, w.dout_down, plan_.padded_v,
                       w.dv + (t.k0 + j) * plan_.padded_v);
      sum_over_queries(w.ds_pairs + j, row, padded, w.q_down, plan_.padded_k,
                       w.dk + (t.k0 + j) * plan_.padded_k);
    }
  }

  /// Scores, their gradients and dq of the kRows queries from row r on.
  void query_gradients(const Tile& t, int64_t r, Scratch& w) const {
    const int64_t last_row = min_of(t.rows, r + kRows) - 1;
    const int64_t first = max_of(t.k0, key_range(s_, t.position + r, t.keys).first) /
                          kColumnMultiple * kColumnMultiple;
    const int64_t last = min_of(t.k1 - 1, key_range(s_, t.position + last_row, t.keys).last);
    if (first > last) return;
    for (int64_t k = first; k <= last; k += kColumns) score_tile(t, r, k, w);
    const int64_t pairs = (last + 1 - first + 1) / 2;
    for (int64_t c = 0; c < plan_.padded_k; c += kColumns) {
      float* dq = w.dq + r * plan_.padded_k + c;
      tile_pairs(
          words(w.ds + r * kBackwardKeys + first - t.k0), kBackwardKeys / 2, 1,
          w.keys + first / 2 * plan_.padded_k + c, plan_.padded_k, pairs,
          [&](int i, __m512 left, __m512 right) { add_to(dq + i * plan_.padded_k, left, right); });
    }
  }

  /// sums[i, :] += Σ_r weights[r, i] · x[r, :] for kRows keys i of a tile, r in pairs.
  void sum_over_queries(const uint32_t* weights, int64_t first_row, int64_t rows, const uint32_t* x,
                        int64_t width, float* sums) const {
    for (int64_t c = 0; c < width; c += kColumns) {
      tile_pairs(
          weights + first_row / 2 * kBackwardKeys, 1, kBackwardKeys, x + first_row / 2 * width + c,
          width, (rows - first_row) / 2,
          [&](int i, __m512 left, __m512 right) { add_to(sums + i * width + c, left, right); });
    }
  }

  /// The keys of a tile of scores that each row sees, and those on which its probabilities depend.
  struct Seen {
    uint32_t keys[kRows], moving[kRows];
    bool all;  // the rows' are not filled in then
  };
  Seen seen_by(const Tile& t, int64_t r, int64_t k) const {
    Seen seen;
    seen.all = r + kRows <= t.rows &&
               key_range(s_, t.position + r, t.keys).last >= k + kColumns - 1 &&
               key_range(s_, t.position + r + kRows - 1, t.keys).first <= k;
    for (int64_t i = 0; i < kRows && !seen.all; ++i) {
      const KeyRange own =
          r + i < t.rows ? key_range(s_, t.position + r + i, t.keys) : KeyRange{0, -1};
      seen.keys[i] = column_mask(own.first - k, own.last + 1 - k);
      seen.moving[i] = is_constant(own) ? 0 : seen.keys[i];
    }
    return seen;
  }

  /// Probabilities and score gradients of kRows queries from row r on and kColumns keys from k on.
  void score_tile(const Tile& t, int64_t r, int64_t k, Scratch& w) const {
    const Seen seen = seen_by(t, r, k);
    if (seen.all) {
      score_tile(
          t, r, k, w, [](int, __m512&, __m512&) {}, [](int, __m512&, __m512&) {});
    } else {
      const auto keep = [](uint32_t mask, __m512& left, __m512& right) {
        left = _mm512_maskz_mov_ps(static_cast<__mmask16>(mask), left);
        right = _mm512_maskz_mov_ps(static_cast<__mmask16>(mask >> 16), right);
      };
      score_tile(
          t, r, k, w, [&](int i, __m512& left, __m512& right) { keep(seen.keys[i], left, right); },
          [&](int i, __m512& left, __m512& right) { keep(seen.moving[i], left, right); });
    }
  }
  /// hide, hold: make what row i does not see, or does not depend on, zero.
  template <typename Hide, typename Hold>
  void score_tile(const Tile& t, int64_t r, int64_t k, Scratch& w, const Hide& hide,
                  const Hold& hold) const {
    alignas(64) float p[kRows * kColumns];
    const __m512 factor = _mm512_set1_ps(scale() * kLog2E);
    const int64_t at = r / 2 * kBackwardKeys + k - t.k0;
    __m512 above_left, above_right;
    // Rows of a tile end one after the other: what a row leaves the next one finds.
    const auto put_pairs = [&](int i, uint32_t* pairs, __m512 left, __m512 right)
        __attribute__((always_inline)) {
      if (i % 2 == 0) {
        above_left = left;
        above_right = right;
      } else {
        store_pairs(pairs + at + i / 2 * kBackwardKeys, above_left, left);
        store_pairs(pairs + at + i / 2 * kBackwardKeys + 16, above_right, right);
      }
    };
    tile_pairs(
        w.q + r * s_.k_width / 2, 1, kRows, w.keys_t + k * s_.k_width / 2, kColumns,
        s_.k_width / 2, [&](int i, __m512 left, __m512 right) __attribute__((always_inline)) {
          const __m512 lse = _mm512_set1_ps(w.lse[r + i]);
          left = exp2_512(_mm512_fmsub_ps(left, factor, lse));
          right = exp2_512(_mm512_fmsub_ps(right, factor, lse));
          hide(i, left, right);
          set_to(p + i * kColumns, left, right);
          put_pairs(i, w.p_pairs, left, right);
        });
    bf16* ds = w.ds + r * kBackwardKeys + k - t.k0;
    tile_pairs(
        w.dout + r * s_.v_width / 2, 1, kRows, w.values_t + k * s_.v_width / 2, kColumns,
        s_.v_width / 2, [&](int i, __m512 left, __m512 right) __attribute__((always_inline)) {
          const __m512 delta = _mm512_set1_ps(w.delta[r + i]);
          const float* x = p + i * kColumns;
          left = _mm512_mul_ps(_mm512_sub_ps(left, delta), _mm512_load_ps(x));
          right = _mm512_mul_ps(_mm512_sub_ps(right, delta), _mm512_load_ps(x + 16));
          hold(i, left, right);
          store_bf16(ds + i * kBackwardKeys, left, right);
          put_pairs(i, w.ds_pairs, left, right);
        });
  }
};

}  // namespace

void run(const AttentionBackward& a) { Backward(a).run(); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
