// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/attention_tile.h"
#include "kernels/kernel_list.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> class Backward : public BackwardDriver<Backward<T>, T> {
  using Driver = BackwardDriver<Backward<T>, T>;
  using Driver::dout_rows, Driver::q_rows, Driver::load_rows, Driver::write_dq, Driver::is_constant;
  using Driver::plan_, Driver::s_;

 public:
  using Driver::Driver;
  using typename Driver::A;
  struct Scope {};
  struct Scratch : BackwardSums<A> {
    A *keys_t, *values_t, *keys;  // packed for the segment
    A *q, *dout, *dq, *p, *ds;    // one tile
    A delta[kBackwardQueries], lse[kBackwardQueries];
  };

  Scratch divide(int64_t padded_keys, A* at) const {
    Scratch w;
    auto take = [&at](int64_t count) {
      A* taken = at;
      at += count;
      return taken;
    };
    w.q = take(kBackwardQueries * plan_.padded_k);
    w.dq = take(kBackwardQueries * plan_.padded_k);
    w.dout = take(kBackwardQueries * plan_.padded_v);
    w.p = take(kBackwardQueries * kBackwardKeys);
    w.ds = take(kBackwardQueries * kBackwardKeys);
    w.keys_t = take(padded_keys * s_.k_width);
    w.values_t = take(padded_keys * s_.v_width);
    w.keys = take(padded_keys * plan_.padded_k);
    w.end = at;
    return w;
  }

  void pack(HeadRows<T> k, HeadRows<T> v, int64_t keys, Scratch& w) const {
    pack_transposed(k, keys, s_.k_width, w.keys_t);
    pack_rows(k, keys, s_.k_width, plan_.padded_k, w.keys);
    pack_transposed(v, keys, s_.v_width, w.values_t);
  }

  void run_queries(const QueryBlock& q, Scratch& w) const {
    load_queries(q, w);
    const auto [first, last] = key_range(s_, q);
    for (int64_t k0 = first; k0 <= last; k0 += kBackwardKeys)
      run_tile(q.position, q.rows, q.keys, k0, min_of(last + 1, k0 + kBackwardKeys), w);
    write_dq(q, w.dq);
  }

  static A dot(const T* x, const T* y, int64_t count) {
    A sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += wide(x[i]) * wide(y[i]);
    return sum;
  }
  /// Queries are scaled when they are loaded.
  A dk_scale() const { return 1; }

 private:
  void load_queries(const QueryBlock& q, Scratch& w) const {
    const int64_t padded = round_up(q.rows, kTileRows);
    load_scaled(q_rows(q), q.rows, s_.k_width, plan_.padded_k, padded, Driver::scale(), w.q);
    load_scaled(dout_rows(q), q.rows, s_.v_width, plan_.padded_v, padded, A(1), w.dout);
    fill(w.dq, w.dq + padded * plan_.padded_k, A(0));
    load_rows(q, padded, A(1), w.lse, w.delta);
  }

  /// Keys [k0, k1) that rows [r, r + kTileRows) see, widened to the left to whole columns of tiles.
  KeyRange group_range(int64_t position, int64_t rows, int64_t r, int64_t keys, int64_t k0,
                       int64_t k1) const {
    const int64_t last_row = min_of(rows, r + kTileRows) - 1;
    const int64_t first = max_of(k0, key_range(s_, position + r, keys).first);
    const int64_t last = min_of(k1 - 1, key_range(s_, position + last_row, keys).last);
    return {first / kColumnMultiple * kColumnMultiple, last};
  }

  void run_tile(int64_t position, int64_t rows, int64_t keys, int64_t k0, int64_t k1,
                Scratch& w) const {
    const int64_t padded = round_up(rows, kTileRows);
    const bool all_computed = k1 - k0 == kBackwardKeys &&
                              key_range(s_, position, keys).last >= k1 - 1 &&
                              key_range(s_, position + rows - 1, keys).first <= k0;
    if (!all_computed) {
      fill(w.p, w.p + padded * kBackwardKeys, A(0));
      fill(w.ds, w.ds + padded * kBackwardKeys, A(0));
    }
    for (int64_t r = 0; r < padded; r += kTileRows) {
      const KeyRange seen = group_range(position, rows, r, keys, k0, k1);
      for (int64_t k = seen.first; k <= seen.last; k += kTileColumns<A>)
        score_tile(position, rows, r, keys, k, k0, w);
      if (seen.first > seen.last) continue;
      for (int64_t c = 0; c < plan_.padded_k; c += kTileColumns<A>) {
        tile<true>(w.ds + r * kBackwardKeys + seen.first - k0, kBackwardKeys, 1,
                   w.keys + seen.first * plan_.padded_k + c, plan_.padded_k,
                   seen.last + 1 - seen.first, w.dq + r * plan_.padded_k + c, plan_.padded_k);
      }
    }
    for (int64_t j = 0; j < k1 - k0; j += kTileRows) {
      // Causal: rows before the first that sees key k0 + j have probability 0.
      const int64_t first_row =
          s_.causal ? min_of(padded, max_of(0, k0 + j - position) / kTileRows * kTileRows) : 0;
      sum_over_rows(w.p + j, first_row, padded, w.dout, plan_.padded_v,
                    w.dv + (k0 + j) * plan_.padded_v);
      sum_over_rows(w.ds + j, first_row, padded, w.q, plan_.padded_k,
                    w.dk + (k0 + j) * plan_.padded_k);
    }
  }

  /// sums[i, :] += Σ_r weights[r, i] · x[r, :] for kTileRows columns i of a tile.
  void sum_over_rows(const A* weights, int64_t first_row, int64_t rows, const A* x, int64_t width,
                     A* sums) const {
    for (int64_t c = 0; c < width; c += kTileColumns<A>) {
      tile<true>(weights + first_row * kBackwardKeys, 1, kBackwardKeys, x + first_row * width + c,
                 width, rows - first_row, sums + c, width);
    }
  }

  /// Probabilities and score gradients of kTileRows queries from row r on and kTileColumns keys
  /// from k on.
  void score_tile(int64_t position, int64_t rows, int64_t r, int64_t keys, int64_t k, int64_t k0,
                  Scratch& w) const {
    A* p = w.p + r * kBackwardKeys + k - k0;
    A* ds = w.ds + r * kBackwardKeys + k - k0;
    tile<false>(w.q + r * plan_.padded_k, plan_.padded_k, 1, w.keys_t + k * s_.k_width,
                kTileColumns<A>, s_.k_width, p, kBackwardKeys);
    tile<false>(w.dout + r * plan_.padded_v, plan_.padded_v, 1, w.values_t + k * s_.v_width,
                kTileColumns<A>, s_.v_width, ds, kBackwardKeys);
    for (int64_t i = 0; i < kTileRows; ++i, p += kBackwardKeys, ds += kBackwardKeys) {
      KeyRange own = key_range(s_, position + r + i, keys);
      if (r + i >= rows) own = {0, -1};
      const int64_t begin = own.first - k, end = own.last + 1 - k;
      const A lse = w.lse[r + i], delta = w.delta[r + i];
      if (s_.softcap > 0) {
        capped_row(p, ds, lse, delta);
      } else {
        for (int64_t c = 0; c < kTileColumns<A>; ++c) {
          p[c] = exp_of(p[c] - lse);
          ds[c] = p[c] * (ds[c] - delta);
        }
      }
      if (begin <= 0 && end >= kTileColumns<A>) continue;
      const bool constant = is_constant(own);
      for (int64_t c = 0; c < kTileColumns<A>; ++c) {
        const bool seen = c >= begin && c < end;
        p[c] = seen ? p[c] : A(0);
        ds[c] = seen && !constant ? ds[c] : A(0);
      }
    }
  }

  void capped_row(A* p, A* ds, A lse, A delta) const {
    const A cap = A(s_.softcap);
    for (int64_t c = 0; c < kTileColumns<A>; ++c) {
      const A t = std::tanh(p[c] / cap);
      p[c] = exp_of(cap * t - lse);
      ds[c] = p[c] * (ds[c] - delta) * (A(1) - t * t);
    }
  }
};

}  // namespace

void run(const AttentionBackward& a) {
  for_type(a.dtype, [&](auto t) { Backward<decltype(t)>(a).run(); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
