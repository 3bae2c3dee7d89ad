// SPDX-License-Identifier: Apache-2.0
/// How attention is dealt out to threads and where its operands and results lie: what the forms of every level and dtype share.
#pragma once

#include <omp.h>

#include <vector>

#include "kernels/attention_tasks.h"
#include "kernels/exponential.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

template <typename A> inline constexpr A kInfinity = __builtin_inff();

/// Rows of one head in a [tokens, heads, width] array.
template <typename T> struct HeadRows {
  const T* data;
  int64_t stride;
};
template <typename T>
inline HeadRows<T> head_rows(const void* base, int64_t heads, int64_t width, int64_t token,
                             int64_t head) {
  return {static_cast<const T*>(base) + (token * heads + head) * width, heads * width};
}

/// Queries of one head and segment that are attended to together.
struct QueryBlock {
  int64_t token, head, rows;
  int64_t position, keys;  ///< own key of the first; keys of the segment

  QueryBlock part(int64_t first, int64_t most) const {
    return {token + first, head, min_of(most, rows - first), position + first, keys};
  }
  QueryBlock of_head(int64_t i) const { return {token, head + i, rows, position, keys}; }
};

/// The keys that the block's queries see, widened to the left to whole columns of tiles.
inline KeyRange key_range(const AttentionShape& s, const QueryBlock& q) {
  return {key_range(s, q.position, q.keys).first / kColumnMultiple * kColumnMultiple,
          key_range(s, q.position + q.rows - 1, q.keys).last};
}

/// What both passes know of a call; Args: AttentionForward or AttentionBackward.
template <typename Args, typename T> class AttentionPass {
 public:
  using A = Acc<T>;

  explicit AttentionPass(const Args& a)
      : a_(a),
        s_(a.shape),
        plan_(plan_attention(a.shape, omp_get_max_threads())),
        tokens_(a.shape.cu_q[a.shape.segments]) {}

 protected:
  A scale() const { return A(s_.scale); }
  int64_t num_keys(int64_t segment) const { return s_.cu_k[segment + 1] - s_.cu_k[segment]; }
  HeadRows<T> q_rows(const QueryBlock& b) const {
    return head_rows<T>(a_.q, s_.heads, s_.k_width, b.token, b.head);
  }

  const Args& a_;
  const AttentionShape& s_;
  const AttentionPlan plan_;
  const int64_t tokens_;
};

/// Room for a segment's keys and values of one kv head, `padded` rows of padded widths, and for one number more.
template <typename A> struct KeyRoom {
  A* at;
  int64_t padded;
  A* number;
};

/// Deals out the forward pass. A Form has
///   Scope                   lives in a thread while it multiplies
///   divide(room)            its view of a KeyRoom, Packed
///   pack(k, v, keys, to)    lays out keys and values once for all queries
///   attend(block, heads, from, scratch)   the block of each of `heads` heads
template <typename Form, typename T>
class ForwardDriver : public AttentionPass<AttentionForward, T> {
  using Pass = AttentionPass<AttentionForward, T>;

 public:
  using Pass::Pass;
  using typename Pass::A;

  void run() const {
    const std::vector<ForwardTask> tasks = forward_tasks(s_);
    const int64_t packs = s_.segments * s_.kv_heads, count = tasks.size();
    A* scratch = static_cast<A*>(a_.workspace) + plan_.forward_packed(s_);
#pragma omp parallel num_threads(plan_.threads)
    {
      [[maybe_unused]] const typename Form::Scope scope;
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < packs; ++i) pack(i / s_.kv_heads, i % s_.kv_heads);
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < count; ++i)
        attend(tasks[i], scratch + omp_get_thread_num() * plan_.forward_scratch());
    }
  }

 protected:
  using Pass::a_, Pass::s_, Pass::plan_, Pass::tokens_;
  using Pass::scale, Pass::num_keys, Pass::q_rows;

  A* lse(const QueryBlock& b) const { return static_cast<A*>(a_.lse) + b.head * tokens_ + b.token; }
  T* out_row(const QueryBlock& b, int64_t r) const {
    return static_cast<T*>(a_.out) + ((b.token + r) * s_.heads + b.head) * s_.v_width;
  }
  const A* sink(int64_t head) const {
    return a_.sinks ? static_cast<const A*>(a_.sinks) + head : nullptr;
  }

 private:
  const Form& form() const { return static_cast<const Form&>(*this); }

  /// packed_at: padded keys of the segments before.
  KeyRoom<A> room(int64_t segment, int64_t packed_at, int64_t kv_head) const {
    const int64_t padded = round_up(num_keys(segment), kColumnMultiple);
    A* packed = static_cast<A*>(a_.workspace);
    return {
        packed + (packed_at * s_.kv_heads + kv_head * padded) * (plan_.padded_k + plan_.padded_v),
        padded, packed + plan_.forward_packed(s_) - (segment * s_.kv_heads + kv_head + 1) * kLine};
  }

  void pack(int64_t segment, int64_t kv_head) const {
    int64_t packed_at = 0;
    for (int64_t i = 0; i < segment; ++i) packed_at += round_up(num_keys(i), kColumnMultiple);
    const int64_t begin = s_.cu_k[segment];
    form().pack(head_rows<T>(a_.k, s_.kv_heads, s_.k_width, begin, kv_head),
                head_rows<T>(a_.v, s_.kv_heads, s_.v_width, begin, kv_head), num_keys(segment),
                form().divide(room(segment, packed_at, kv_head)));
  }

  void attend(const ForwardTask& task, A* scratch) const {
    const int64_t group = s_.heads / s_.kv_heads, q_begin = s_.cu_q[task.segment];
    const int64_t queries = s_.cu_q[task.segment + 1] - q_begin, keys = num_keys(task.segment);
    const QueryBlock block{q_begin + task.first_query, task.kv_head * group,
                           min_of(kForwardQueries, queries - task.first_query),
                           task.first_query + keys - queries, keys};
    form().attend(block, group, form().divide(room(task.segment, task.packed_at, task.kv_head)),
                  scratch);
  }
};

/// Where a task's gradients of keys and values are summed.
template <typename A> struct BackwardSums {
  A *dk, *dv;  ///< [padded keys][padded width], over the task's queries
  A* end;
};

/// Deals out the backward pass. A Form has
///   Scope                       lives in a thread while it multiplies
///   Scratch                     a task's view of its thread's scratch, BackwardSums among it
///   divide(padded_keys, scratch)  lays one out; `end` is where the scratch's rest begins
///   pack(k, v, keys, scratch)   lays out keys and values once for the task
///   run_queries(block, scratch) writes dq and adds to dk and dv
///   dot(x, y, count)            of two rows
///   dk_scale()                  what sums of dk still lack as a factor
template <typename Form, typename T>
class BackwardDriver : public AttentionPass<AttentionBackward, T> {
  using Pass = AttentionPass<AttentionBackward, T>;

 public:
  using Pass::Pass;
  using typename Pass::A;

  void run() const {
    const std::vector<BackwardTask> tasks = backward_tasks(s_, plan_.splits);
    const int64_t count = tasks.size(), sums = plan_.splits > 1 ? s_.segments * s_.kv_heads : 0;
#pragma omp parallel num_threads(plan_.threads)
    {
      [[maybe_unused]] const typename Form::Scope scope;
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < count; ++i)
        run_task(tasks[i],
                 static_cast<A*>(a_.workspace) + omp_get_thread_num() * plan_.backward_scratch());
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < sums; ++i) sum_splits(i / s_.kv_heads, i % s_.kv_heads);
#pragma omp for schedule(static)
      for (int64_t h = 0; h < (a_.dsinks ? s_.heads : 0); ++h) sink_gradient(h);
    }
  }

 protected:
  using Pass::a_, Pass::s_, Pass::plan_, Pass::tokens_;
  using Pass::scale, Pass::num_keys, Pass::q_rows;

  HeadRows<T> dout_rows(const QueryBlock& b) const {
    return head_rows<T>(a_.dout, s_.heads, s_.v_width, b.token, b.head);
  }
  T* dq(const QueryBlock& b) const {
    return static_cast<T*>(a_.dq) + (b.token * s_.heads + b.head) * s_.k_width;
  }

  /// lse · factor and delta = dout · out of the block's rows; up to `padded`, what makes probabilities 0.
  void load_rows(const QueryBlock& b, int64_t padded, A factor, A* lse, A* delta) const {
    const HeadRows<T> dout = dout_rows(b),
                      out = head_rows<T>(a_.out, s_.heads, s_.v_width, b.token, b.head);
    for (int64_t r = 0; r < padded; ++r) {
      const bool exists = r < b.rows;
      lse[r] = exists ? static_cast<const A*>(a_.lse)[b.head * tokens_ + b.token + r] * factor
                      : kInfinity<A>;
      delta[r] = exists
                     ? Form::dot(dout.data + r * dout.stride, out.data + r * out.stride, s_.v_width)
                     : 0;
    }
  }

  /// sums: [rows][padded_k]
  void write_dq(const QueryBlock& b, const A* sums) const {
    T* to = dq(b);
    for (int64_t r = 0; r < b.rows; ++r, to += s_.heads * s_.k_width, sums += plan_.padded_k) {
      for (int64_t c = 0; c < s_.k_width; ++c) to[c] = narrow<T>(sums[c] * scale());
    }
  }

  /// The softmax of a single score is constant: its gradient is an exact zero, not a rounding error.
  bool is_constant(const KeyRange& seen) const { return seen.first == seen.last && !a_.sinks; }

 private:
  const Form& form() const { return static_cast<const Form&>(*this); }

  A* partial(int64_t split, int64_t segment, int64_t kv_head) const {
    int64_t row = 0, rows = plan_.sum_padded_keys + kRowMultiple * s_.segments;
    for (int64_t i = 0; i < segment; ++i)
      row += round_up(num_keys(i), kColumnMultiple) + kRowMultiple;
    return static_cast<A*>(a_.workspace) + plan_.threads * plan_.backward_scratch() +
           ((split * s_.kv_heads + kv_head) * rows + row) * (plan_.padded_k + plan_.padded_v);
  }
  A* dv_after(A* dk, int64_t padded_keys) const {
    return dk + (padded_keys + kRowMultiple) * plan_.padded_k;
  }

  void run_task(const BackwardTask& task, A* scratch) const {
    const int64_t begin = s_.cu_k[task.segment], keys = num_keys(task.segment);
    const int64_t q_begin = s_.cu_q[task.segment], queries = s_.cu_q[task.segment + 1] - q_begin;
    const int64_t padded_keys = round_up(keys, kColumnMultiple);
    auto w = form().divide(padded_keys, scratch);
    w.dk = plan_.splits > 1 ? partial(task.split, task.segment, task.kv_head) : w.end;
    w.dv = dv_after(w.dk, padded_keys);
    fill(w.dk, w.dk + plan_.backward_sums(padded_keys), A(0));
    form().pack(head_rows<T>(a_.k, s_.kv_heads, s_.k_width, begin, task.kv_head),
                head_rows<T>(a_.v, s_.kv_heads, s_.v_width, begin, task.kv_head), keys, w);
    const int64_t group = s_.heads / s_.kv_heads;
    for (int64_t i = 0; i < group; ++i) {
      for (int64_t q0 = task.first_query; q0 < task.end_query; q0 += kBackwardQueries) {
        const QueryBlock block{q_begin + q0, task.kv_head * group + i,
                               min_of(kBackwardQueries, task.end_query - q0), q0 + keys - queries,
                               keys};
        form().run_queries(block, w);
      }
    }
    if (plan_.splits == 1) write_sums(task.segment, task.kv_head, w.dk, w.dv);
  }

  void write_sums(int64_t segment, int64_t kv_head, const A* dk, const A* dv) const {
    const int64_t begin = s_.cu_k[segment];
    for (int64_t j = 0; j < num_keys(segment); ++j) {
      T* to_k = static_cast<T*>(a_.dk) + ((begin + j) * s_.kv_heads + kv_head) * s_.k_width;
      T* to_v = static_cast<T*>(a_.dv) + ((begin + j) * s_.kv_heads + kv_head) * s_.v_width;
      for (int64_t c = 0; c < s_.k_width; ++c)
        to_k[c] = narrow<T>(dk[j * plan_.padded_k + c] * form().dk_scale());
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
    write_sums(segment, kv_head, sum, dv_after(sum, padded_keys));
  }

  /// The sink's probability p gains Σ_t −p_t · delta_t: it carries no value.
  void sink_gradient(int64_t head) const {
    A sum = 0;
    const A sink = static_cast<const A*>(a_.sinks)[head];
    for (int64_t t = 0; t < tokens_; ++t) {
      const A delta =
          Form::dot(head_rows<T>(a_.dout, s_.heads, s_.v_width, t, head).data,
                    head_rows<T>(a_.out, s_.heads, s_.v_width, t, head).data, s_.v_width);
      sum -= exp_of(sink - static_cast<const A*>(a_.lse)[head * tokens_ + t]) * delta;
    }
    static_cast<A*>(a_.dsinks)[head] = sum;
  }
};

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
