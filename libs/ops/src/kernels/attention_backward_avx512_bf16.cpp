// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_bf16.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// As the generic Backward. Probabilities and score gradients are kept as bfloat16, paired along
/// the reduction that reads them: along keys for dq, along queries for dk and dv.
class Backward : public BackwardDriver<Backward> {
 public:
  using BackwardDriver::BackwardDriver;
  struct Scope {};
  struct Scratch : BackwardSums {
    uint32_t *keys_t, *values_t;   // paired along rows: [panel][width / 2][kColumns]
    uint32_t* keys;                // paired down rows: [keys / 2][padded_k]
    bf16 *q, *dout;                // one block of queries, rows padded to whole tiles
    uint32_t *q_down, *dout_down;  // the same, paired down rows
    float* dq;
    uint32_t *p_pairs, *ds_pairs;  // [kBackwardQueries / 2][kBackwardKeys], paired along queries
    bf16* ds;                      // [kBackwardQueries][kBackwardKeys]
    float delta[kBackwardQueries], lse[kBackwardQueries];
  };

  Scratch divide(int64_t padded_keys, float* at) const {
    Scratch w;
    Room room{at};
    w.dq = room.floats(kBackwardQueries * plan_.padded_k);
    w.q = room.values(kBackwardQueries * s_.k_width);
    w.dout = room.values(kBackwardQueries * s_.v_width);
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

  void pack(HeadRows k, HeadRows v, int64_t keys, Scratch& w) const {
    pack_along_rows(k.data, k.stride, keys, s_.k_width, w.keys_t);
    pack_along_rows(v.data, v.stride, keys, s_.v_width, w.values_t);
    pack_down_rows(k.data, k.stride, keys, s_.k_width, plan_.padded_k, w.keys);
  }

  void run_queries(const QueryBlock& q, Scratch& w) const {
    load_queries(q, w);
    const int64_t first =
        key_range(s_, q.position, q.keys).first / kColumnMultiple * kColumnMultiple;
    const int64_t last = key_range(s_, q.position + q.rows - 1, q.keys).last;
    for (int64_t k0 = first; k0 <= last; k0 += kBackwardKeys)
      run_tile({q.position, q.rows, q.keys, k0, min_of(last + 1, k0 + kBackwardKeys)}, w);
    bf16* to = dq(q);
    for (int64_t r = 0; r < q.rows; ++r) {
      for (int64_t c = 0; c < s_.k_width; ++c)
        to[r * s_.heads * s_.k_width + c] = narrow<bf16>(w.dq[r * plan_.padded_k + c] * scale());
    }
  }

 private:
  /// A block of queries and the tile of keys at hand.
  struct Tile {
    int64_t position, rows, keys, k0, k1;
  };

  void load_queries(const QueryBlock& q, Scratch& w) const {
    const int64_t padded = round_up(q.rows, kRows);
    copy_rows(q_rows(q), q.rows, s_.k_width, padded, s_.k_width, w.q);
    copy_rows(dout_rows(q), q.rows, s_.v_width, padded, s_.v_width, w.dout);
    pack_down_rows(w.q, s_.k_width, padded, s_.k_width, plan_.padded_k, w.q_down);
    pack_down_rows(w.dout, s_.v_width, padded, s_.v_width, plan_.padded_v, w.dout_down);
    fill(w.dq, w.dq + padded * plan_.padded_k, 0.f);
    load_rows(q, padded, w.lse, w.delta);
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

  /// Probabilities and score gradients of kRows queries from row r on and kColumns keys from k on.
  void score_tile(const Tile& t, int64_t r, int64_t k, Scratch& w) const {
    float p[kRows * kColumns], ds[kRows * kColumns];
    uint32_t masks[kRows];
    bool whole = true, constant[kRows];
    for (int64_t i = 0; i < kRows; ++i) {
      const KeyRange own =
          r + i < t.rows ? key_range(s_, t.position + r + i, t.keys) : KeyRange{0, -1};
      masks[i] = column_mask(own.first - k, own.last + 1 - k);
      whole = whole && masks[i] == ~0u;
      constant[i] = is_constant(own);
    }
    const __m512 factor = _mm512_set1_ps(scale());
    tile_pairs(words(w.q + r * s_.k_width), s_.k_width / 2, 1, w.keys_t + k * s_.k_width / 2,
               kColumns, s_.k_width / 2, [&](int i, __m512 left, __m512 right) {
                 const __m512 lse = _mm512_set1_ps(w.lse[r + i]);
                 set_to(p + i * kColumns, exp_512(_mm512_fmsub_ps(left, factor, lse)),
                        exp_512(_mm512_fmsub_ps(right, factor, lse)));
               });
    if (!whole) {
      for (int64_t i = 0; i < kRows; ++i) {
        float* x = p + i * kColumns;
        set_to(x, _mm512_maskz_loadu_ps(static_cast<__mmask16>(masks[i]), x),
               _mm512_maskz_loadu_ps(static_cast<__mmask16>(masks[i] >> 16), x + 16));
      }
    }
    bf16* rows_ds = w.ds + r * kBackwardKeys + k - t.k0;
    tile_pairs(words(w.dout + r * s_.v_width), s_.v_width / 2, 1, w.values_t + k * s_.v_width / 2,
               kColumns, s_.v_width / 2, [&](int i, __m512 left, __m512 right) {
                 const __m512 delta = _mm512_set1_ps(w.delta[r + i]);
                 const float* x = p + i * kColumns;
                 left = _mm512_mul_ps(_mm512_sub_ps(left, delta), _mm512_loadu_ps(x));
                 right = _mm512_mul_ps(_mm512_sub_ps(right, delta), _mm512_loadu_ps(x + 16));
                 set_to(ds + i * kColumns, left, right);
                 store_bf16(rows_ds + i * kBackwardKeys, left, right);
               });
    for (int64_t i = 0; i < kRows && !whole; ++i) {
      if (!constant[i]) continue;
      set_to(ds + i * kColumns, _mm512_setzero_ps(), _mm512_setzero_ps());
      store_bf16(rows_ds + i * kBackwardKeys, _mm512_setzero_ps(), _mm512_setzero_ps());
    }
    const int64_t at = r / 2 * kBackwardKeys + k - t.k0;
    pair_rows(p, w.p_pairs + at);
    pair_rows(ds, w.ds_pairs + at);
  }

  /// out[i / 2][c] = bfloat16 of x[i … i + 1][c].
  static void pair_rows(const float* x, uint32_t* out) {
    for (int64_t i = 0; i < kRows; i += 2, x += 2 * kColumns, out += kBackwardKeys) {
      for (int64_t c = 0; c < kColumns; c += 16) {
        const __m512i top = low_halves(_mm512_loadu_ps(x + c)),
                      below = low_halves(_mm512_loadu_ps(x + kColumns + c));
        _mm512_storeu_si512(out + c, _mm512_or_si512(top, _mm512_slli_epi32(below, 16)));
      }
    }
  }
};

}  // namespace

void run(const AttentionBackward& a) { Backward(a).run(); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
