// SPDX-License-Identifier: Apache-2.0
/// What attention's forms in bfloat16 share.
#pragma once

#include <cmath>

#include "kernels/attention_driver.h"
#include "kernels/avx512_bf16.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// to[r, 0 … columns) = x[r] and zeros; zero rows up to `padded`.
inline void copy_rows(HeadRows<bf16> x, int64_t rows, int64_t width, int64_t padded,
                      int64_t columns, bf16* to) {
  for (int64_t r = 0; r < padded; ++r, to += columns) {
    for (int64_t c = 0; c < columns; c += kColumns) {
      const __mmask32 from = r < rows ? column_mask(0, width - c) : 0;
      _mm512_mask_storeu_epi16(to + c, column_mask(0, columns - c),
                               _mm512_maskz_loadu_epi16(from, x.data + r * x.stride + c));
    }
  }
}

/// As pack_down_rows, with zeros up to `padded` rows.
inline void pack_pairs_down(HeadRows<bf16> x, int64_t rows, int64_t width, int64_t padded,
                            int64_t columns, uint32_t* out) {
  pack_down_rows(x.data, x.stride, rows, width, columns, out);
  fill(out + (rows + 1) / 2 * columns, out + padded / 2 * columns, 0u);
}

inline float dot(const bf16* x, const bf16* y, int64_t count) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += kColumns) {
    const __mmask32 mask = column_mask(0, count - i);
    sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_maskz_loadu_epi16(mask, x + i),
                           (__m512bh)_mm512_maskz_loadu_epi16(mask, y + i));
  }
  return _mm512_reduce_add_ps(sum);
}

/// Scores below it, in powers of 2, are far from what a float holds, whatever they are multiplied with and summed to: their
/// exponents need not be relative to the highest.
inline constexpr float kScoreBound = 60;

/// The largest squared norm of some rows; NaN if one is.
inline float largest_norm(HeadRows<bf16> x, int64_t rows, int64_t width) {
  float largest = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const bf16* row = x.data + r * x.stride;
    const float norm = dot(row, row, width);
    if (norm > largest || norm != norm) largest = norm;
  }
  return largest;
}

/// A segment's keys and values of one kv head as the Form lays them out, in room for padded rows.
struct PackedKeys {
  uint32_t *keys, *values;
  float* norm;  ///< the largest squared norm of a key
};

/// The forward pass with scores in powers of 2.
template <typename Form> class PairedForward : public ForwardDriver<Form, bf16> {
 public:
  using ForwardDriver<Form, bf16>::ForwardDriver;

  PackedKeys divide(KeyRoom<float> room) const {
    auto* at = reinterpret_cast<uint32_t*>(room.at);
    return {at, at + room.padded * this->plan_.padded_k / 2, room.number};
  }

 protected:
  float factor() const { return this->scale() * kLog2E; }
  /// Whether all scores of queries of this squared norm are below kScoreBound: |q · k| <= |q| |k|. Not if a NaN is among them.
  bool bounded(float norm, PackedKeys keys) const {
    return factor() * factor() * norm * *keys.norm <= kScoreBound * kScoreBound;
  }
};

/// Hands out a thread's scratch piece by piece.
struct Room {
  float* at;
  float* floats(int64_t count) {
    float* taken = at;
    at += count;
    return taken;
  }
  uint32_t* words(int64_t count) { return reinterpret_cast<uint32_t*>(floats(count)); }
  bf16* values(int64_t count) { return reinterpret_cast<bf16*>(floats(count / 2)); }
};

/// The backward pass from queries that are not scaled.
template <typename Form> class PairedBackward : public BackwardDriver<Form, bf16> {
 public:
  using BackwardDriver<Form, bf16>::BackwardDriver;

  float dk_scale() const { return this->scale(); }
  static float dot(const bf16* x, const bf16* y, int64_t count) {
    return VEOMNI_LEVEL::dot(x, y, count);
  }
};

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
