// SPDX-License-Identifier: Apache-2.0
/// The units of work attention is dealt out in, costliest first, so that threads end together.
/// Every task writes its own outputs: which thread runs it changes nothing.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/attention_plan.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// One block of queries of one segment against one kv head; the heads of its group share the packed
/// keys.
struct ForwardTask {
  int64_t segment, kv_head, first_query,
      packed_at;  // packed_at: padded keys of the segments before
};

inline std::vector<ForwardTask> forward_tasks(const AttentionShape& s) {
  std::vector<ForwardTask> tasks;
  int64_t packed_at = 0;
  for (int64_t i = 0; i < s.segments; ++i) {
    for (int64_t q = 0; q < s.cu_q[i + 1] - s.cu_q[i]; q += kForwardQueries) {
      for (int64_t g = 0; g < s.kv_heads; ++g) tasks.push_back({i, g, q, packed_at});
    }
    packed_at += round_up(s.cu_k[i + 1] - s.cu_k[i], kColumnMultiple);
  }
  // A causal query's cost grows with its position.
  std::stable_sort(tasks.begin(), tasks.end(), [](const ForwardTask& a, const ForwardTask& b) {
    return a.first_query > b.first_query;
  });
  return tasks;
}

/// The queries [first_query, end_query) of one segment against one kv head.
struct BackwardTask {
  int64_t segment, kv_head, split, first_query, end_query;
  int64_t cost;
};

inline std::vector<BackwardTask> backward_tasks(const AttentionShape& s, int64_t splits) {
  std::vector<BackwardTask> tasks;
  for (int64_t i = 0; i < s.segments; ++i) {
    const int64_t queries = s.cu_q[i + 1] - s.cu_q[i], keys = s.cu_k[i + 1] - s.cu_k[i];
    if (queries == 0 && keys == 0) continue;
    const int64_t blocks = (queries + kBackwardQueries - 1) / kBackwardQueries;
    for (int64_t g = 0; g < s.kv_heads; ++g) {
      for (int64_t p = 0; p < splits; ++p) {
        const int64_t first = p * blocks / splits * kBackwardQueries;
        const int64_t end = min_of(queries, (p + 1) * blocks / splits * kBackwardQueries);
        tasks.push_back({i, g, p, first, end, max_of(0, end - first) * keys});
      }
    }
  }
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const BackwardTask& a, const BackwardTask& b) { return a.cost > b.cost; });
  return tasks;
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
