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

template <typename T> class Backward {
 public:
  using A = Acc<T>;

  explicit Backward(const AttentionBackward& a)
      : a_(a), s_(a.shape), plan_(plan_attention(a.shape, omp_get_max_threads())) {
    scratch_ = static_cast<A*>(a.workspace);
    partials_ = scratch_ + plan_.threads * plan_.backward_scratch();
    tokens_ = s_.cu_q[s_.segments];
  }

  void run() {
    const std::vector<BackwardTask> tasks = backward_tasks(s_, plan_.splits);
    const int64_t count = tasks.size(), sums = plan_.splits > 1 ? s_.segments * s_.kv_heads : 0;
#pragma omp parallel num_threads(plan_.threads)
    {
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < count; ++i)
        run_task(tasks[i], scratch_ + omp_get_thread_num() * plan_.backward_scratch());
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < sums; ++i) sum_splits(i / s_.kv_heads, i % s_.kv_heads);
#pragma omp for schedule(static)
      for (int64_t h = 0; h < (a_.dsinks ? s_.heads : 0); ++h) sink_gradient(h);
    }
  }

 private:
  /// A task's view of its thread's scratch.
  struct Scratch {
    A *keys_t, *values_t, *keys;  // packed for the segment
    A *dk, *dv;                   // sums over the task's queries
    A *q, *dout, *dq, *p, *ds;    // one tile
    A delta[kBackwardQueries], lse[kBackwardQueries];
  };

  int64_t num_keys(int64_t segment) const { return s_.cu_k[segment + 1] - s_.cu_k[segment]; }
  int64_t num_queries(int64_t segment) const { return s_.cu_q[segment + 1] - s_.cu_q[segment]; }

  A* partial(int64_t split, int64_t segment, int64_t kv_head) const {
    int64_t row = 0, rows = plan_.sum_padded_keys + kRowMultiple * s_.segments;
    for (int64_t i = 0; i < segment; ++i)
      row += round_up(num_keys(i), kColumnMultiple) + kRowMultiple;
    return partials_ +
           ((split * s_.kv_heads + kv_head) * rows + row) * (plan_.padded_k + plan_.padded_v);
  }

  Scratch divide(const BackwardTask& task, A* at) const {
    Scratch w;
    auto take = [&at](int64_t count) {
      A* taken = at;
      at += count;
      return taken;
    };
    const int64_t padded_keys = round_up(num_keys(task.segment), kColumnMultiple);
    w.q = take(kBackwardQueries * plan_.padded_k);
    w.dq = take(kBackwardQueries * plan_.padded_k);
    w.dout = take(kBackwardQueries * plan_.padded_v);
    w.p = take(kBackwardQueries * kBackwardKeys);
    w.ds = take(kBackwardQueries * kBackwardKeys);
    w.keys_t = take(padded_keys * s_.k_width);
    w.values_t = take(padded_keys * s_.v_width);
    w.keys = take(padded_keys * plan_.padded_k);
    w.dk = plan_.splits > 1 ? partial(task.split, task.segment, task.kv_head) : at;
    w.dv = w.dk + (padded_keys + kRowMultiple) * plan_.padded_k;
    fill(w.dk, w.dk + plan_.backward_sums(padded_keys), A(0));
    return w;
  }

  void run_task(const BackwardTask& task, A* scratch) const {
    Scratch w = divide(task, scratch);
    const int64_t begin = s_.cu_k[task.segment], keys = num_keys(task.segment);
    const auto k_rows = head_rows<T>(a_.k, s_.kv_heads, s_.k_width, begin, task.kv_head);
    pack_transposed(k_rows, keys, s_.k_width, w.keys_t);
    pack_rows(k_rows, keys, s_.k_width, plan_.padded_k, w.keys);
    pack_transposed(head_rows<T>(a_.v, s_.kv_heads, s_.v_width, begin, task.kv_head), keys,
                    s_.v_width, w.values_t);
    const int64_t group = s_.heads / s_.kv_heads;
    for (int64_t i = 0; i < group; ++i) {
      for (int64_t q0 = task.first_query; q0 < task.end_query; q0 += kBackwardQueries) {
        run_queries(task, task.kv_head * group + i, q0,
                    min_of(kBackwardQueries, task.end_query - q0), w);
      }
    }
    if (plan_.splits == 1) write_sums(task.segment, task.kv_head, w.dk, w.dv);
  }

  void load_queries(int64_t token, int64_t head, int64_t rows, Scratch& w) const {
    const int64_t padded = round_up(rows, kTileRows);
    load_scaled(head_rows<T>(a_.q, s_.heads, s_.k_width, token, head), rows, s_.k_width,
                plan_.padded_k, padded, A(s_.scale), w.q);
    const auto dout = head_rows<T>(a_.dout, s_.heads, s_.v_width, token, head);
    const auto out = head_rows<T>(a_.out, s_.heads, s_.v_width, token, head);
    load_scaled(dout, rows, s_.v_width, plan_.padded_v, padded, A(1), w.dout);
    fill(w.dq, w.dq + padded * plan_.padded_k, A(0));
    for (int64_t r = 0; r < padded; ++r) {
      w.delta[r] = 0;
      w.lse[r] = kInfinity<A>;  // rows past the end get probability 0
      if (r >= rows) continue;
      A dot = 0;
      for (int64_t c = 0; c < s_.v_width; ++c) {
        dot += wide(dout.data[r * dout.stride + c]) * wide(out.data[r * out.stride + c]);
      }
      w.delta[r] = dot;
      w.lse[r] = static_cast<const A*>(a_.lse)[head * tokens_ + token + r];
    }
  }

  void run_queries(const BackwardTask& task, int64_t head, int64_t q0, int64_t rows,
                   Scratch& w) const {
    const int64_t keys = num_keys(task.segment), token = s_.cu_q[task.segment] + q0;
    const int64_t position = q0 + keys - num_queries(task.segment);
    load_queries(token, head, rows, w);
    const int64_t first = key_range(s_, position, keys).first / kColumnMultiple * kColumnMultiple;
    const int64_t last = key_range(s_, position + rows - 1, keys).last;
    for (int64_t k0 = first; k0 <= last; k0 += kBackwardKeys) {
      run_tile(position, rows, keys, k0, min_of(last + 1, k0 + kBackwardKeys), w);
    }
    T* dq = static_cast<T*>(a_.dq) + (token * s_.heads + head) * s_.k_width;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < s_.k_width; ++c) {
        dq[r * s_.heads * s_.k_width + c] = narrow<T>(w.dq[r * plan_.padded_k + c] * A(s_.scale));
      }
    }
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
      // The softmax of a single score is constant: its gradient is an exact zero, not a rounding
      // error.
      const bool constant = own.first == own.last && !a_.sinks;
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

  void write_sums(int64_t segment, int64_t kv_head, const A* dk, const A* dv) const {
    const int64_t begin = s_.cu_k[segment];
    for (int64_t j = 0; j < num_keys(segment); ++j) {
      T* to_k = static_cast<T*>(a_.dk) + ((begin + j) * s_.kv_heads + kv_head) * s_.k_width;
      T* to_v = static_cast<T*>(a_.dv) + ((begin + j) * s_.kv_heads + kv_head) * s_.v_width;
      for (int64_t c = 0; c < s_.k_width; ++c) to_k[c] = narrow<T>(dk[j * plan_.padded_k + c]);
      for (int64_t c = 0; c < s_.v_width; ++c) to_v[c] = narrow<T>(dv[j * plan_.padded_v + c]);
    }
  }

  void sum_splits(int64_t segment, int64_t kv_head) const {
    const int64_t padded_keys = round_up(num_keys(segment), kColumnMultiple);
    if (padded_keys == 0) return;
    A* sum = partial(0, segment, kv_head);
    for (int64_t p = 1; p < plan_.splits; ++p) {
      const A* more = partial(p, segment, kv_head);
      for (int64_t i = 0; i < plan_.backward_sums(padded_keys); ++i) sum[i] += more[i];
    }
    write_sums(segment, kv_head, sum, sum + (padded_keys + kRowMultiple) * plan_.padded_k);
  }

  /// The sink's probability p gains Σ_t −p_t · delta_t: it carries no value, so its gradient before
  /// centring is 0.
  void sink_gradient(int64_t head) const {
    A sum = 0;
    const A sink = static_cast<const A*>(a_.sinks)[head];
    for (int64_t t = 0; t < tokens_; ++t) {
      const auto dout = head_rows<T>(a_.dout, s_.heads, s_.v_width, t, head);
      const auto out = head_rows<T>(a_.out, s_.heads, s_.v_width, t, head);
      A dot = 0;
      for (int64_t c = 0; c < s_.v_width; ++c) dot += wide(dout.data[c]) * wide(out.data[c]);
      sum -= exp_of(sink - static_cast<const A*>(a_.lse)[head * tokens_ + t]) * dot;
    }
    static_cast<A*>(a_.dsinks)[head] = sum;
  }

  const AttentionBackward& a_;
  const AttentionShape& s_;
  AttentionPlan plan_;
  A* scratch_;
  A* partials_;
  int64_t tokens_;
};

}  // namespace

void run(const AttentionBackward& a) {
  for_type(a.dtype, [&](auto t) { Backward<decltype(t)>(a).run(); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
