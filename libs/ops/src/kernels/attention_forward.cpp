// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/attention_tile.h"
#include "kernels/kernel_list.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> class Forward : public ForwardDriver<Forward<T>, T> {
  using Driver = ForwardDriver<Forward<T>, T>;
  using Driver::lse, Driver::out_row, Driver::q_rows;
  using Driver::plan_, Driver::s_;

 public:
  using Driver::Driver;
  using typename Driver::A;
  struct Scope {};
  struct PackedKeys {
    A *keys, *values;
  };

  PackedKeys divide(KeyRoom<A> room) const { return {room.at, room.at + room.padded * s_.k_width}; }

  void pack(HeadRows<T> k, HeadRows<T> v, int64_t keys, PackedKeys to) const {
    pack_transposed(k, keys, s_.k_width, to.keys);
    pack_rows(v, keys, s_.v_width, plan_.padded_v, to.values);
  }

  void attend(const QueryBlock& block, int64_t heads, PackedKeys from, A* scratch) const {
    for (int64_t i = 0; i < heads; ++i) attend_head(block.of_head(i), from, scratch);
  }

 private:
  void attend_head(const QueryBlock& block, PackedKeys from, A* scratch) const {
    const int64_t rows = block.rows, position = block.position, keys = block.keys;
    A* q = scratch;
    A* scores = q + kForwardQueries * s_.k_width;
    A* out = scores + kRowMultiple * kForwardKeys;
    load_scaled(q_rows(block), rows, s_.k_width, s_.k_width, round_up(rows, kTileRows),
                Driver::scale(), q);
    fill(out, out + round_up(rows, kTileRows) * plan_.padded_v, A(0));
    A top[kForwardQueries], sum[kForwardQueries];
    fill(top, top + rows, -kInfinity<A>);
    fill(sum, sum + rows, A(0));

    const auto [first, last] = key_range(s_, block);
    for (int64_t k0 = first; k0 <= last; k0 += kForwardKeys) {
      const int64_t k1 = min_of(last + 1, k0 + kForwardKeys);
      for (int64_t r = 0; r < rows; r += kTileRows) {
        const int64_t group_rows = min_of(kTileRows, rows - r);
        const KeyRange seen = group_range(position + r, group_rows, keys, k0, k1);
        if (seen.first > seen.last) continue;
        score_group(q + r * s_.k_width, from.keys, k0, seen, scores);
        for (int64_t i = 0; i < group_rows; ++i) {
          softmax_row(position + r + i, keys, k0, seen, scores + i * kForwardKeys, top[r + i],
                      sum[r + i], out + (r + i) * plan_.padded_v);
        }
        for (int64_t i = group_rows; i < kTileRows; ++i) {
          A* row = scores + i * kForwardKeys;
          fill(row + seen.first - k0, row + seen.last + 1 - k0, A(0));
        }
        for (int64_t c = 0; c < plan_.padded_v; c += kTileColumns<A>) {
          tile<true>(scores + seen.first - k0, kForwardKeys, 1,
                     from.values + seen.first * plan_.padded_v + c, plan_.padded_v,
                     seen.last + 1 - seen.first, out + r * plan_.padded_v + c, plan_.padded_v);
        }
      }
    }
    finish(block, top, sum, out);
  }

  /// The keys in [k0, k1) that any of the rows sees, cut to whole columns of tiles at the left.
  KeyRange group_range(int64_t position, int64_t rows, int64_t keys, int64_t k0, int64_t k1) const {
    const int64_t first = max_of(k0, key_range(s_, position, keys).first);
    const int64_t last = min_of(k1 - 1, key_range(s_, position + rows - 1, keys).last);
    return {first / kColumnMultiple * kColumnMultiple, last};
  }

  void score_group(const A* q, const A* packed_k, int64_t k0, KeyRange seen, A* scores) const {
    for (int64_t k = seen.first; k <= seen.last; k += kTileColumns<A>) {
      tile<false>(q, s_.k_width, 1, packed_k + k * s_.k_width, kTileColumns<A>, s_.k_width,
                  scores + k - k0, kForwardKeys);
    }
    if (s_.softcap > 0) {
      for (int64_t i = 0; i < kTileRows; ++i) {
        cap_scores(scores + i * kForwardKeys + seen.first - k0, seen.last + 1 - seen.first,
                   A(s_.softcap));
      }
    }
  }

  /// Scores of one row become probabilities relative to the row's running maximum; `out` is
  /// rescaled to it.
  void softmax_row(int64_t position, int64_t keys, int64_t k0, KeyRange seen, A* scores, A& top,
                   A& sum, A* out) const {
    const KeyRange own = key_range(s_, position, keys);
    const int64_t begin = max_of(seen.first, own.first) - k0,
                  end = min_of(seen.last, own.last) + 1 - k0;
    const int64_t seen_begin = seen.first - k0, seen_end = seen.last + 1 - k0;
    if (begin >= end) {
      fill(scores + seen_begin, scores + seen_end, A(0));
      return;
    }
    const A highest = highest_of(scores + begin, end - begin, top);
    A added = 0;
    for (int64_t k = begin; k < end; ++k) {
      scores[k] = exp_of(scores[k] - highest);
      added += scores[k];
    }
    fill(scores + seen_begin, scores + begin, A(0));
    fill(scores + end, scores + seen_end, A(0));
    if (highest != top && sum > A(0)) {
      const A shrink = exp_of(top - highest);
      sum *= shrink;
      for (int64_t c = 0; c < plan_.padded_v; ++c) out[c] *= shrink;
    }
    top = highest;
    sum += added;
  }

  void finish(const QueryBlock& block, A* top, A* sum, const A* out) const {
    for (int64_t r = 0; r < block.rows; ++r) {
      A factor = 1;
      if (const A* sink = this->sink(block.head)) {
        const A highest = *sink > top[r] ? *sink : top[r];
        factor = exp_of(top[r] - highest);
        sum[r] = sum[r] * factor + exp_of(*sink - highest);
        top[r] = highest;
      }
      const bool sees_nothing = sum[r] == A(0);  // not by `top`: a NaN score must come out as NaN
      lse(block)[r] = sees_nothing ? -kInfinity<A> : top[r] + std::log(sum[r]);
      const A scale = sees_nothing ? A(0) : factor / sum[r];
      T* to = out_row(block, r);
      for (int64_t c = 0; c < s_.v_width; ++c)
        to[c] = narrow<T>(out[r * plan_.padded_v + c] * scale);
    }
  }
};

}  // namespace

void run(const AttentionForward& a) {
  for_type(a.dtype, [&](auto t) { Forward<decltype(t)>(a).run(); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
