// SPDX-License-Identifier: Apache-2.0
/// How attention is cut into tiles and tasks, and what workspace that takes; the same on every
/// level.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/args.h"
#include "kernels/matmul_plan.h"

namespace veomni::ops::kernels {

/// Queries and keys of one tile of scores: the tile and what it multiplies stay in a core's L2
/// cache.
inline constexpr int64_t kForwardQueries = 96, kForwardKeys = 384;
inline constexpr int64_t kBackwardQueries = 96, kBackwardKeys = 192;
/// Where scores are squares of AMX's tiles, kAmxRows queries at a time: these stay in the L1 cache.
inline constexpr int64_t kAmxForwardKeys = 256;
static_assert(kForwardQueries % kRowMultiple == 0 && kForwardQueries % kAmxRows == 0);
static_assert(kBackwardQueries % kRowMultiple == 0 && kBackwardQueries % kAmxRows == 0);

/// Elements of a line of the caches: room for what is known of a segment's keys.
inline constexpr int64_t kLine = 16;

/// Elements of acc. Forward: keys and values are packed once for all queries; backward: once per
/// task.
struct AttentionPlan {
  int64_t padded_k = 0, padded_v = 0;                ///< widths, to kColumnMultiple
  int64_t sum_padded_keys = 0, max_padded_keys = 0;  ///< over segments, each to kColumnMultiple
  int64_t threads = 1;
  /// Backward tasks are (segment, kv head); with fewer of them than threads, each is split by its
  /// queries into this many, whose dk and dv are summed at the end in order.
  int64_t splits = 1;

  int64_t forward_packed(const AttentionShape& s) const {
    return s.kv_heads * sum_padded_keys * (padded_k + padded_v) + kLine * s.segments * s.kv_heads;
  }
  int64_t forward_scratch() const {
    // Scores, and half as much for probabilities in bfloat16.
    return kForwardQueries * (padded_k + padded_v) +
           std::max(kRowMultiple * kForwardKeys * 3 / 2, kAmxRows * kAmxForwardKeys);
  }
  /// dk and dv of one segment and kv head; the last row tile may reach past the keys.
  int64_t backward_sums(int64_t padded_keys) const {
    return (padded_keys + kRowMultiple) * (padded_k + padded_v);
  }
  int64_t backward_scratch() const {
    const int64_t packed = max_padded_keys * (2 * padded_k + padded_v);
    const int64_t tiles = kBackwardQueries * (2 * padded_k + padded_v + 2 * kBackwardKeys);
    return packed + tiles + (splits == 1 ? backward_sums(max_padded_keys) : 0);
  }
  int64_t backward_partials(const AttentionShape& s) const {
    const int64_t rows = sum_padded_keys + kRowMultiple * s.segments;
    return splits == 1 ? 0 : splits * s.kv_heads * rows * (padded_k + padded_v);
  }
};
AttentionPlan plan_attention(const AttentionShape& shape, int threads);

/// The keys a query at position `position` (its own key) may see, [first, last].
struct KeyRange {
  int64_t first, last;
};
inline KeyRange key_range(const AttentionShape& s, int64_t position, int64_t keys) {
  const int64_t right = s.causal ? 0 : s.window_right;
  KeyRange range{0, keys - 1};
  if (s.window_left >= 0 && position - s.window_left > 0) range.first = position - s.window_left;
  if (right >= 0 && position + right < range.last) range.last = position + right;
  return range;
}
/// The queries that may see a key, as distances from a query whose own key is `position`, [first, last].
struct QueryRange {
  int64_t first, last;
};
inline QueryRange query_range(const AttentionShape& s, int64_t key, int64_t position) {
  constexpr int64_t kFar = int64_t{1} << 62;
  const int64_t right = s.causal ? 0 : s.window_right;
  return {right >= 0 ? key - right - position : -kFar,
          s.window_left >= 0 ? key + s.window_left - position : kFar};
}

}  // namespace veomni::ops::kernels
