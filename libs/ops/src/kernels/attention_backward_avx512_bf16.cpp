// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include <cmath>
#include <vector>

#include "kernels/attention_tasks.h"
#include "kernels/avx512_bf16.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// As the generic Backward. Probabilities and score gradients are kept as bfloat16, paired along
/// the reduction that reads them: along keys for dq, along queries for dk and dv.
class Backward {
 public:
  explicit Backward(const AttentionBackward& a)
      : a_(a), s_(a.shape), plan_(plan_attention(a.shape, omp_get_max_threads())) {
    scratch_ = static_cast<float*>(a.workspace);
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
    uint32_t *keys_t, *values_t;   // paired along rows: [panel][width / 2][kColumns]
    uint32_t* keys;                // paired down rows: [keys / 2][padded_k]
    float *dk, *dv;                // sums over the task's queries
    bf16 *q, *dout;                // one block of queries, rows padded to whole tiles
    uint32_t *q_down, *dout_down;  // the same, paired down rows
    float* dq;
    uint32_t *p_pairs, *ds_pairs;  // [kBackwardQueries / 2][kBackwardKeys], paired along queries
    bf16* ds;                      // [kBackwardQueries][kBackwardKeys]
    float delta[kBackwardQueries], lse[kBackwardQueries];
  };
  /// A block of queries and the tile of keys at hand.
  struct Tile {
    int64_t position, rows, keys, k0, k1;
  };

  int64_t num_keys(int64_t segment) const { return s_.cu_k[segment + 1] - s_.cu_k[segment]; }
  int64_t num_queries(int64_t segment) const { return s_.cu_q[segment + 1] - s_.cu_q[segment]; }

  float* partial(int64_t split, int64_t segment, int64_t kv_head) const {
    int64_t row = 0, rows = plan_.sum_padded_keys + kRowMultiple * s_.segments;
    for (int64_t i = 0; i < segment; ++i)
      row += round_up(num_keys(i), kColumnMultiple) + kRowMultiple;
    return partials_ +
           ((split * s_.kv_heads + kv_head) * rows + row) * (plan_.padded_k + plan_.padded_v);
  }

  Scratch divide(const BackwardTask& task, float* at) const {
    Scratch w;
    auto take = [&at](int64_t floats) {
      float* taken = at;
      at += floats;
      return taken;
    };
    auto take_words = [&](int64_t count) { return reinterpret_cast<uint32_t*>(take(count)); };
    auto take_bf16 = [&](int64_t count) { return reinterpret_cast<bf16*>(take(count / 2)); };
    const int64_t padded_keys = round_up(num_keys(task.segment), kColumnMultiple);
    w.dq = take(kBackwardQueries * plan_.padded_k);
    w.q = take_bf16(kBackwardQueries * s_.k_width);
    w.dout = take_bf16(kBackwardQueries * s_.v_width);
    w.q_down = take_words(kBackwardQueries / 2 * plan_.padded_k);
    w.dout_down = take_words(kBackwardQueries / 2 * plan_.padded_v);
    w.p_pairs = take_words(kBackwardQueries / 2 * kBackwardKeys);
    w.ds_pairs = take_words(kBackwardQueries / 2 * kBackwardKeys);
    w.ds = take_bf16(kBackwardQueries * kBackwardKeys);
    w.keys_t = take_words(padded_keys * s_.k_width / 2);
    w.values_t = take_words(padded_keys * s_.v_width / 2);
    w.keys = take_words(padded_keys / 2 * plan_.padded_k);
    w.dk = plan_.splits > 1 ? partial(task.split, task.segment, task.kv_head) : at;
    w.dv = w.dk + (padded_keys + kRowMultiple) * plan_.padded_k;
    fill(w.dk, w.dk + plan_.backward_sums(padded_keys), 0.f);
    return w;
  }

  static const bf16* row(const void* base, int64_t heads, int64_t width, int64_t token,
                         int64_t head) {
    return static_cast<const bf16*>(base) + (token * heads + head) * width;
  }

  void run_task(const BackwardTask& task, float* scratch) const {
    Scratch w = divide(task, scratch);
    const int64_t begin = s_.cu_k[task.segment], keys = num_keys(task.segment);
    const bf16* k = row(a_.k, s_.kv_heads, s_.k_width, begin, task.kv_head);
    const bf16* v = row(a_.v, s_.kv_heads, s_.v_width, begin, task.kv_head);
    pack_along_rows(k, s_.kv_heads * s_.k_width, keys, s_.k_width, w.keys_t);
    pack_along_rows(v, s_.kv_heads * s_.v_width, keys, s_.v_width, w.values_t);
    pack_down_rows(k, s_.kv_heads * s_.k_width, keys, s_.k_width, plan_.padded_k, w.keys);
    const int64_t group = s_.heads / s_.kv_heads;
    for (int64_t i = 0; i < group; ++i) {
      for (int64_t q0 = task.first_query; q0 < task.end_query; q0 += kBackwardQueries) {
        run_queries(task, task.kv_head * group + i, q0,
                    min_of(kBackwardQueries, task.end_query - q0), w);
      }
    }
    if (plan_.splits == 1) write_sums(task.segment, task.kv_head, w.dk, w.dv);
  }

  /// Copies rows and zeros the rest of the last tile.
  static void load_rows(const bf16* from, int64_t stride, int64_t rows, int64_t width, bf16* to) {
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(to + r * width, from + r * stride, width * sizeof(bf16));
    std::memset(to + rows * width, 0, (round_up(rows, kRows) - rows) * width * sizeof(bf16));
  }

  void load_queries(int64_t token, int64_t head, int64_t rows, Scratch& w) const {
    const int64_t padded = round_up(rows, kRows), stride = s_.heads * s_.v_width;
    load_rows(row(a_.q, s_.heads, s_.k_width, token, head), s_.heads * s_.k_width, rows, s_.k_width,
              w.q);
    load_rows(row(a_.dout, s_.heads, s_.v_width, token, head), stride, rows, s_.v_width, w.dout);
    pack_down_rows(w.q, s_.k_width, padded, s_.k_width, plan_.padded_k, w.q_down);
    pack_down_rows(w.dout, s_.v_width, padded, s_.v_width, plan_.padded_v, w.dout_down);
    fill(w.dq, w.dq + padded * plan_.padded_k, 0.f);
    const bf16* out = row(a_.out, s_.heads, s_.v_width, token, head);
    for (int64_t r = 0; r < padded; ++r) {
      float dot = 0;
      for (int64_t c = 0; c < s_.v_width && r < rows; ++c)
        dot += wide(w.dout[r * s_.v_width + c]) * wide(out[r * stride + c]);
      w.delta[r] = dot;
      // Rows past the end get probability 0.
      w.lse[r] = r < rows ? static_cast<const float*>(a_.lse)[head * tokens_ + token + r]
                          : __builtin_inff();
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
      run_tile({position, rows, keys, k0, min_of(last + 1, k0 + kBackwardKeys)}, w);
    }
    bf16* dq = static_cast<bf16*>(a_.dq) + (token * s_.heads + head) * s_.k_width;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < s_.k_width; ++c) {
        dq[r * s_.heads * s_.k_width + c] =
            narrow<bf16>(w.dq[r * plan_.padded_k + c] * static_cast<float>(s_.scale));
      }
    }
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
      // The softmax of a single score is constant: its gradient is an exact zero, not a rounding
      // error.
      constant[i] = own.first == own.last && !a_.sinks;
    }
    const __m512 scale = _mm512_set1_ps(static_cast<float>(s_.scale));
    tile_pairs(words(w.q + r * s_.k_width), s_.k_width / 2, 1, w.keys_t + k * s_.k_width / 2,
               kColumns, s_.k_width / 2, [&](int i, __m512 left, __m512 right) {
                 const __m512 lse = _mm512_set1_ps(w.lse[r + i]);
                 set_to(p + i * kColumns, exp_512(_mm512_fmsub_ps(left, scale, lse)),
                        exp_512(_mm512_fmsub_ps(right, scale, lse)));
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

  void write_sums(int64_t segment, int64_t kv_head, const float* dk, const float* dv) const {
    const int64_t begin = s_.cu_k[segment];
    for (int64_t j = 0; j < num_keys(segment); ++j) {
      bf16* to_k = static_cast<bf16*>(a_.dk) + ((begin + j) * s_.kv_heads + kv_head) * s_.k_width;
      bf16* to_v = static_cast<bf16*>(a_.dv) + ((begin + j) * s_.kv_heads + kv_head) * s_.v_width;
      for (int64_t c = 0; c < s_.k_width; ++c) {
        to_k[c] = narrow<bf16>(dk[j * plan_.padded_k + c] * static_cast<float>(s_.scale));
      }
      for (int64_t c = 0; c < s_.v_width; ++c) to_v[c] = narrow<bf16>(dv[j * plan_.padded_v + c]);
    }
  }

  void sum_splits(int64_t segment, int64_t kv_head) const {
    const int64_t padded_keys = round_up(num_keys(segment), kColumnMultiple);
    if (padded_keys == 0) return;
    float* sum = partial(0, segment, kv_head);
    for (int64_t p = 1; p < plan_.splits; ++p) {
      const float* more = partial(p, segment, kv_head);
      for (int64_t i = 0; i < plan_.backward_sums(padded_keys); ++i) sum[i] += more[i];
    }
    write_sums(segment, kv_head, sum, sum + (padded_keys + kRowMultiple) * plan_.padded_k);
  }

  /// The sink's probability p gains Σ_t −p_t · delta_t: it carries no value.
  void sink_gradient(int64_t head) const {
    float sum = 0;
    const float sink = static_cast<const float*>(a_.sinks)[head];
    for (int64_t t = 0; t < tokens_; ++t) {
      const bf16* dout = row(a_.dout, s_.heads, s_.v_width, t, head);
      const bf16* out = row(a_.out, s_.heads, s_.v_width, t, head);
      float dot = 0;
      for (int64_t c = 0; c < s_.v_width; ++c) dot += wide(dout[c]) * wide(out[c]);
      sum -= std::exp(sink - static_cast<const float*>(a_.lse)[head * tokens_ + t]) * dot;
    }
    static_cast<float*>(a_.dsinks)[head] = sum;
  }

  const AttentionBackward& a_;
  const AttentionShape& s_;
  AttentionPlan plan_;
  float* scratch_;
  float* partials_;
  int64_t tokens_;
};

}  // namespace

void run(const AttentionBackward& a) { Backward(a).run(); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
