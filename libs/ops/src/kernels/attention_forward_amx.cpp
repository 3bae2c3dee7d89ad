// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_amx.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// Keys stay rows, values are turned. kAmxRows queries of a head, a panel, pass over the keys in chunks. While vector
/// instructions turn a chunk's scores into probabilities, the tiles add up the values of the chunk before and make the
/// scores of the next: neither waits for the other.
class Forward : public ForwardDriver<Forward> {
 public:
  using ForwardDriver::ForwardDriver;
  using Scope = TileScope;

  void pack(HeadRows k, HeadRows v, int64_t keys, PackedKeys to) const {
    copy_rows(k, keys, s_.k_width, round_up(keys, kAmxRows), plan_.padded_k,
              reinterpret_cast<bf16*>(to.keys));
    pack_squares(v, keys, s_.v_width, plan_.padded_v, to.values);
    *to.norm = largest_norm(k, keys, s_.k_width);
  }

  void attend(const QueryBlock& block, int64_t heads, PackedKeys from, float* scratch) const {
    Walk walk{block, heads, *from.norm, scratch, 0, 0, 0, 0, 0, -1, {}};
    Chunk before{}, now{}, next = take(walk);
    Tiles(*this, from, before, next).finish(next);
    while (next.panel || now.panel) {
      before = now;
      now = next;
      next = take(walk);
      Lanes by = all_lanes(1);
      const bool shrinks = now.panel && !now.panel->bounded && raise_top(now, by);
      Tiles tiles(*this, from, before, next);
      if (now.panel) exponentiate(now, tiles);
      tiles.finish(next);
      if (before.ends) finish(*before.panel);
      if (shrinks && !now.starts) shrink(*now.panel, by);
    }
  }

 private:
  /// Running softmax, one lane a query.
  struct Panel {
    QueryBlock block;
    uint32_t* q;     // [padded_k / 2][kAmxRows]
    float* out;      // [padded_v][kAmxRows]
    Lanes top, sum;  // top: what exponents are relative to, in powers of 2
    bool bounded;    // scores are so small that they need not be relative to the highest
  };
  struct Chunk {
    Panel* panel;       // null: no chunk
    int64_t k0, count;  // whole squares
    bool starts, ends;  // its panel
    float* scores;    // [kAmxForwardKeys][kAmxRows]; then pairs of probabilities in every other row
    Lanes highest;    // of the scores, before they are scaled; not if they are bounded
    uint32_t hidden;  // squares of which some scores are
  };
  /// Where in its blocks a task is. Three panels are in use at a time, and two chunks' scores.
  struct Walk {
    const QueryBlock block;
    const int64_t heads;
    const float norm;  // the largest squared one of the keys
    float* scratch;
    int64_t head, row, chunks, panels;
    int64_t k, last;
    Panel slots[3];
  };

  /// Of bounded scores in powers of 2: far from what a float holds, whatever they are multiplied with and summed to.
  static constexpr float kBound = 60;

  float factor() const { return static_cast<float>(s_.scale) * kLog2E; }

  /// The next chunk; panels that see nothing are finished on the way.
  Chunk take(Walk& walk) const {
    bool starts = false;
    while (walk.k > walk.last) {
      if (walk.head == walk.heads) return Chunk();
      starts = open_panel(walk);
    }
    Chunk chunk;
    chunk.panel = &walk.slots[walk.panels % 3];
    chunk.k0 = walk.k;
    chunk.count = round_up(min_of(walk.last + 1 - walk.k, kAmxForwardKeys), kAmxRows);
    chunk.scores = walk.scratch + walk.chunks++ % 2 * kAmxForwardKeys * kAmxRows;
    chunk.starts = starts;
    walk.k += chunk.count;
    chunk.ends = walk.k > walk.last;
    return chunk;
  }

  bool open_panel(Walk& walk) const {
    Panel& panel = walk.slots[++walk.panels % 3];
    panel.block = walk.block.of_head(walk.head).part(walk.row, kAmxRows);
    walk.row += kAmxRows;
    if (walk.row >= walk.block.rows) {
      walk.row = 0;
      ++walk.head;
    }
    panel.out = walk.scratch + 2 * kAmxForwardKeys * kAmxRows +
                walk.panels % 3 * (plan_.padded_v + plan_.padded_k / 2) * kAmxRows;
    panel.q = reinterpret_cast<uint32_t*>(panel.out + plan_.padded_v * kAmxRows);
    panel.top = all_lanes(-__builtin_inff());
    panel.sum = all_lanes(0);
    const QueryBlock& b = panel.block;
    walk.k = max_of(0, key_range(s_, b.position, b.keys).first) / kAmxRows * kAmxRows;
    walk.last = key_range(s_, b.position + b.rows - 1, b.keys).last;
    panel.bounded = false;
    if (walk.k > walk.last) {
      --walk.panels;
      fill(panel.out, panel.out + plan_.padded_v * kAmxRows, 0.f);
      finish(panel);
      return false;
    }
    const HeadRows q = head_rows(a_.q, s_.heads, s_.k_width, b.token, b.head);
    pack_columns(q, b.rows, s_.k_width, plan_.padded_k, panel.q);
    // |q · k| <= |q| |k|; false if a NaN is among them.
    panel.bounded =
        factor() * factor() * largest_norm(panel.q, plan_.padded_k) * walk.norm <= kBound * kBound;
    if (panel.bounded) panel.top = all_lanes(0);
    return true;
  }

  /// What the tiles have to do while a chunk is exponentiated, in steps of a few instructions: they overlap with vector
  /// instructions only if they lie close.
  class Tiles {
   public:
    Tiles(const Forward& form, PackedKeys from, const Chunk& before, const Chunk& next)
        : form_(form),
          from_(from),
          before_(before),
          next_(next),
          value_steps_(before.panel ? form.plan_.padded_v / kAmxRows * (before.count / kTileTerms)
                                    : 0),
          score_steps_(next.panel ? form.plan_.padded_k / kTileTerms * (next.count / kAmxRows) : 0),
          highest_(all_lanes(-__builtin_inff())) {}

    int64_t steps() const { return value_steps_ + score_steps_; }

    void run(int64_t end) {
      for (; done_ < end; ++done_) {
        if (done_ < value_steps_) {
          add_values();
        } else {
          score();
        }
      }
    }
    void finish(Chunk& next) {
      run(steps());
      while (looked_at_ < scored_) look_at_scores();
      next.highest = highest_;
      next.hidden = hidden_;
    }

   private:
    void add_values() {
      const int64_t width = form_.plan_.padded_v;
      float* out = before_.panel->out + column_ * kAmxRows;
      if (k_ == 0) {
        if (before_.starts) {
          zero_sums();
        } else {
          load_sums(out, kAmxRows);
        }
      }
      add_steps(from_.values + (before_.k0 + k_) / 2 * width + column_ * kTileSide, kTileSide, 0,
                reinterpret_cast<const uint32_t*>(before_.scores + k_ * kAmxRows), 2 * kAmxRows, 1);
      k_ += kTileTerms;
      if (k_ < before_.count) return;
      store_sums(out, kAmxRows);
      k_ = 0;
      column_ += kAmxRows;
    }

    void score() {
      const int64_t stride = form_.plan_.padded_k / 2;
      if (term_ == 0) {
        zero_sums();
        if (looked_at_ < scored_) look_at_scores();
      }
      add_steps(from_.keys + (next_.k0 + scored_) * stride + term_, stride, 0,
                next_.panel->q + term_ * kAmxRows, kAmxRows, 1);
      term_ += kTileSide;
      if (term_ < stride) return;
      store_sums(next_.scores + scored_ * kAmxRows, kAmxRows);
      term_ = 0;
      scored_ += kAmxRows;
    }

    void look_at_scores() {
      float* scores = next_.scores + looked_at_ * kAmxRows;
      if (form_.hide_unseen(next_.panel->block, next_.k0 + looked_at_, scores))
        hidden_ |= uint32_t{1} << (looked_at_ / kAmxRows);
      for (int64_t j = 0; j < kAmxRows && !next_.panel->bounded; ++j) {
        const Lanes s = load_lanes(scores + j * kAmxRows);
        // A NaN is passed over: the first operand's only remains where the second is one too.
        highest_ = {_mm512_max_ps(s.left, highest_.left), _mm512_max_ps(s.right, highest_.right)};
      }
      looked_at_ += kAmxRows;
    }

    const Forward& form_;
    const PackedKeys from_;
    const Chunk &before_, &next_;
    const int64_t value_steps_, score_steps_;
    Lanes highest_;
    uint32_t hidden_ = 0;
    int64_t done_ = 0;
    int64_t k_ = 0, column_ = 0;                     // of the values
    int64_t term_ = 0, scored_ = 0, looked_at_ = 0;  // in words; keys
  };

  /// Says whether there were any.
  bool hide_unseen(const QueryBlock& block, int64_t k, float* scores) const {
    const __m512 hidden = _mm512_set1_ps(-__builtin_inff());
    if (query_range(s_, k + kAmxRows - 1, block.position).first <= 0 &&
        query_range(s_, k, block.position).last >= kAmxRows - 1 && k + kAmxRows <= block.keys)
      return false;
    for (int64_t j = 0; j < kAmxRows; ++j, scores += kAmxRows) {
      const QueryRange seen = query_range(s_, k + j, block.position);
      const uint32_t unseen =
          k + j < block.keys ? ~column_mask(seen.first, seen.last + 1) : ~uint32_t{0};
      _mm512_mask_storeu_ps(scores, static_cast<__mmask16>(unseen), hidden);
      _mm512_mask_storeu_ps(scores + 16, static_cast<__mmask16>(unseen >> 16), hidden);
    }
    return true;
  }

  /// Makes exponents relative to the chunk's highest score where they would become large, and says whether it did;
  /// earlier sums are then worth `by`.
  bool raise_top(const Chunk& chunk, Lanes& by) const {
    constexpr float kLarge = 8;
    Panel& panel = *chunk.panel;
    const __m512 f = _mm512_set1_ps(factor()), large = _mm512_set1_ps(kLarge);
    const Lanes here = {_mm512_mul_ps(chunk.highest.left, f),
                        _mm512_mul_ps(chunk.highest.right, f)};
    const auto rises = [&](__m512 x, __m512 top) {
      return _mm512_cmp_ps_mask(x, _mm512_add_ps(top, large), _CMP_GT_OQ);
    };
    if (!rises(here.left, panel.top.left) && !rises(here.right, panel.top.right)) return false;
    const Lanes top = {_mm512_max_ps(here.left, panel.top.left),
                       _mm512_max_ps(here.right, panel.top.right)};
    const Lanes shift = shift_of(top);
    by = {exp2_512(_mm512_sub_ps(panel.top.left, shift.left)),
          exp2_512(_mm512_sub_ps(panel.top.right, shift.right))};
    panel.sum = {_mm512_mul_ps(panel.sum.left, by.left), _mm512_mul_ps(panel.sum.right, by.right)};
    panel.top = top;
    return true;
  }
  /// top, but 0 where no score has been seen.
  static Lanes shift_of(Lanes top) {
    const auto shift = [](__m512 x) {
      return _mm512_maskz_mov_ps(
          _mm512_cmp_ps_mask(x, _mm512_set1_ps(-__builtin_inff()), _CMP_NEQ_UQ), x);
    };
    return {shift(top.left), shift(top.right)};
  }
  void shrink(const Panel& panel, Lanes by) const {
    for (int64_t c = 0; c < plan_.padded_v; ++c) {
      float* out = panel.out + c * kAmxRows;
      const Lanes old = load_lanes(out);
      set_to(out, _mm512_mul_ps(old.left, by.left), _mm512_mul_ps(old.right, by.right));
    }
  }

  /// Scores become pairs of probabilities relative to the panel's top.
  void exponentiate(const Chunk& chunk, Tiles& tiles) const {
    constexpr int64_t kRowsAtOnce = 8;
    const Lanes shift = shift_of(chunk.panel->top);
    const __m512 f = _mm512_set1_ps(factor()), bits = _mm512_set1_ps(factor() * (1 << 23));
    Lanes sum = chunk.panel->sum;
    for (int64_t k = 0; k < chunk.count; k += kRowsAtOnce) {
      tiles.run(tiles.steps() * (k + kRowsAtOnce) / chunk.count);
      float* scores = chunk.scores + k * kAmxRows;
      if (chunk.panel->bounded && !(chunk.hidden >> (k / kAmxRows) & 1)) {
        exponentiate_rows<kRowsAtOnce>(scores, sum, [&](Lanes s) {
          return Lanes{exp2_bounded(_mm512_mul_ps(s.left, bits)),
                       exp2_bounded(_mm512_mul_ps(s.right, bits))};
        });
      } else {
        exponentiate_rows<kRowsAtOnce>(scores, sum, [&](Lanes s) {
          return Lanes{exp2_512(_mm512_fmsub_ps(s.left, f, shift.left)),
                       exp2_512(_mm512_fmsub_ps(s.right, f, shift.right))};
        });
      }
    }
    chunk.panel->sum = sum;
  }

  template <int64_t rows, typename F>
  static inline __attribute__((always_inline)) void exponentiate_rows(float* scores, Lanes& sum,
                                                                      const F& probability) {
    for (int64_t j = 0; j < rows; j += 2, scores += 2 * kAmxRows) {
      const Lanes top = probability(load_lanes(scores)),
                  below = probability(load_lanes(scores + kAmxRows));
      sum = {_mm512_add_ps(sum.left, _mm512_add_ps(top.left, below.left)),
             _mm512_add_ps(sum.right, _mm512_add_ps(top.right, below.right))};
      store_pairs(reinterpret_cast<uint32_t*>(scores), top, below);
    }
  }

  void finish(const Panel& panel) const {
    const QueryBlock& block = panel.block;
    const End left = end_of(panel.top.left, panel.sum.left, block.head),
              right = end_of(panel.top.right, panel.sum.right, block.head);
    const uint32_t exists = column_mask(0, block.rows);
    _mm512_mask_storeu_ps(lse(block), static_cast<__mmask16>(exists), left.lse);
    _mm512_mask_storeu_ps(lse(block) + 16, static_cast<__mmask16>(exists >> 16), right.lse);
    write_transposed(panel.out, block.rows, s_.v_width, {left.scale, right.scale},
                     out_row(block, 0), s_.heads * s_.v_width);
  }

  /// How a softmax ends; scale: of its weighted sum of values.
  struct End {
    __m512 lse, scale;
  };
  End end_of(__m512 top, __m512 sum, int64_t head) const {
    const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
    const auto sees_nothing = [&] {
      return _mm512_cmp_ps_mask(sum, _mm512_setzero_ps(), _CMP_EQ_OQ);  // not where it is NaN
    };
    top = _mm512_mask_mov_ps(top, sees_nothing(), nothing);
    __m512 factor = _mm512_set1_ps(1.f);
    if (a_.sinks) {
      const __m512 sink = _mm512_set1_ps(static_cast<const float*>(a_.sinks)[head] * kLog2E),
                   highest = _mm512_max_ps(sink, top);
      factor = exp2_512(_mm512_sub_ps(top, highest));
      sum = _mm512_fmadd_ps(sum, factor, exp2_512(_mm512_sub_ps(sink, highest)));
      top = highest;
    }
    const __m512 value = _mm512_fmadd_ps(top, _mm512_set1_ps(kLog2), log_512(sum));
    return {_mm512_mask_mov_ps(value, sees_nothing(), nothing),
            _mm512_maskz_div_ps(static_cast<__mmask16>(~sees_nothing()), factor, sum)};
  }
};

}  // namespace

void run(const AttentionForward& a) { Forward(a).run(); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
