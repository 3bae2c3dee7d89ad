// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include <cmath>
#include <vector>

#include "kernels/attention_tasks.h"
#include "kernels/attention_tile.h"
#include "kernels/exponential.h"
#include "kernels/kernel_list.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> class Forward {
 public:
  using A = Acc<T>;

  explicit Forward(const AttentionForward& a)
      : a_(a),
        s_(a.shape),
        plan_(plan_attention(a.shape, omp_get_max_threads())),
        tasks_(forward_tasks(a.shape)) {
    packed_ = static_cast<A*>(a.workspace);
    scratch_ = packed_ + plan_.forward_packed(s_);
    tokens_ = s_.cu_q[s_.segments];
  }

  void run() {
    const int64_t packs = s_.segments * s_.kv_heads, tasks = tasks_.size();
#pragma omp parallel num_threads(plan_.threads)
    {
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < packs; ++i) pack(i / s_.kv_heads, i % s_.kv_heads);
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < tasks; ++i)
        attend(tasks_[i], scratch_ + omp_get_thread_num() * plan_.forward_scratch());
    }
  }

 private:
  A* packed_keys(int64_t packed_at, int64_t kv_head, int64_t keys) const {
    const int64_t padded = round_up(keys, kColumnMultiple), each = s_.k_width + plan_.padded_v;
    return packed_ + (packed_at * s_.kv_heads + kv_head * padded) * each;
  }

  void pack(int64_t segment, int64_t kv_head) const {
    int64_t packed_at = 0;
    for (int64_t i = 0; i < segment; ++i)
      packed_at += round_up(s_.cu_k[i + 1] - s_.cu_k[i], kColumnMultiple);
    const int64_t begin = s_.cu_k[segment], keys = s_.cu_k[segment + 1] - begin;
    A* out = packed_keys(packed_at, kv_head, keys);
    pack_transposed(head_rows<T>(a_.k, s_.kv_heads, s_.k_width, begin, kv_head), keys, s_.k_width,
                    out);
    pack_rows(head_rows<T>(a_.v, s_.kv_heads, s_.v_width, begin, kv_head), keys, s_.v_width,
              plan_.padded_v, out + round_up(keys, kColumnMultiple) * s_.k_width);
  }

  void attend(const ForwardTask& task, A* scratch) const {
    const int64_t group = s_.heads / s_.kv_heads;
    for (int64_t i = 0; i < group; ++i) attend_head(task, task.kv_head * group + i, scratch);
  }

  void attend_head(const ForwardTask& task, int64_t head, A* scratch) const {
    const int64_t q_begin = s_.cu_q[task.segment], queries = s_.cu_q[task.segment + 1] - q_begin;
    const int64_t keys = s_.cu_k[task.segment + 1] - s_.cu_k[task.segment];
    const int64_t rows = min_of(kForwardQueries, queries - task.first_query);
    const int64_t position = task.first_query + keys - queries;  // of the block's first query
    const A* packed_k = packed_keys(task.packed_at, task.kv_head, keys);
    const A* packed_v = packed_k + round_up(keys, kColumnMultiple) * s_.k_width;
    A* q = scratch;
    A* scores = q + kForwardQueries * s_.k_width;
    A* out = scores + kRowMultiple * kForwardKeys;
    load_scaled(head_rows<T>(a_.q, s_.heads, s_.k_width, q_begin + task.first_query, head), rows,
                s_.k_width, s_.k_width, round_up(rows, kTileRows), A(s_.scale), q);
    fill(out, out + round_up(rows, kTileRows) * plan_.padded_v, A(0));
    A top[kForwardQueries], sum[kForwardQueries];
    fill(top, top + rows, -kInfinity<A>);
    fill(sum, sum + rows, A(0));

    const int64_t first =
        max_of(0, key_range(s_, position, keys).first) / kColumnMultiple * kColumnMultiple;
    const int64_t last = key_range(s_, position + rows - 1, keys).last;
    for (int64_t k0 = first; k0 <= last; k0 += kForwardKeys) {
      const int64_t k1 = min_of(last + 1, k0 + kForwardKeys);
      for (int64_t r = 0; r < rows; r += kTileRows) {
        const int64_t group_rows = min_of(kTileRows, rows - r);
        const KeyRange seen = group_range(position + r, group_rows, keys, k0, k1);
        if (seen.first > seen.last) continue;
        score_group(q + r * s_.k_width, packed_k, k0, seen, scores);
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
                     packed_v + seen.first * plan_.padded_v + c, plan_.padded_v,
                     seen.last + 1 - seen.first, out + r * plan_.padded_v + c, plan_.padded_v);
        }
      }
    }
    finish(task, head, rows, top, sum, out);
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

  void finish(const ForwardTask& task, int64_t head, int64_t rows, A* top, A* sum,
              const A* out) const {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = s_.cu_q[task.segment] + task.first_query + r;
      A factor = 1;
      if (a_.sinks) {
        const A sink = static_cast<const A*>(a_.sinks)[head];
        const A highest = sink > top[r] ? sink : top[r];
        factor = exp_of(top[r] - highest);
        sum[r] = sum[r] * factor + exp_of(sink - highest);
        top[r] = highest;
      }
      const bool sees_nothing = sum[r] == A(0);  // not by `top`: a NaN score must come out as NaN
      static_cast<A*>(a_.lse)[head * tokens_ + token] =
          sees_nothing ? -kInfinity<A> : top[r] + std::log(sum[r]);
      const A scale = sees_nothing ? A(0) : factor / sum[r];
      T* to = static_cast<T*>(a_.out) + (token * s_.heads + head) * s_.v_width;
      for (int64_t c = 0; c < s_.v_width; ++c)
        to[c] = narrow<T>(out[r * plan_.padded_v + c] * scale);
    }
  }

  const AttentionForward& a_;
  const AttentionShape& s_;
  AttentionPlan plan_;
  std::vector<ForwardTask> tasks_;
  A* packed_;
  A* scratch_;
  int64_t tokens_;
};

}  // namespace

void run(const AttentionForward& a) {
  for_type(a.dtype, [&](auto t) { Forward<decltype(t)>(a).run(); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
