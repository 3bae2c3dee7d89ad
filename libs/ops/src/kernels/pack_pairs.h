// SPDX-License-Identifier: Apache-2.0
/// How operands of a matrix product in bfloat16 are laid out (pairs of terms along the reduction, one pair a word), and how its
/// sums are written.
#pragma once

#include "kernels/avx512_bf16.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// (x[0], x[step_k]) as one word, zero where a term is missing.
inline uint32_t pair_at(const bf16* x, int64_t step_k, bool has_second) {
  return x[0].bits | (has_second ? static_cast<uint32_t>(x[step_k].bits) << 16 : 0);
}

/// Rows of tiles that the hardware's prefetcher does not follow across pages: a whole stride apart.
inline void prefetch_row(const bf16* row, int64_t count) {
  for (int64_t c = 0; c < count; c += 32)
    _mm_prefetch(reinterpret_cast<const char*>(row + c), _MM_HINT_T0);
}

/// Runs of terms end with zeros up to a multiple of `terms`.
template <int terms> struct PairPacking {
  static constexpr int64_t words_of(int64_t depth) {
    return (depth + terms - 1) / terms * (terms / 2);
  }

  static void pack_panels(const bf16* x, int64_t step, int64_t step_k, int64_t columns,
                          int64_t depth, uint32_t* out, int64_t panel_words) {
    const int64_t pairs = (depth + 1) / 2, words = words_of(depth);
    if (words > pairs) {
      for (int64_t n = 0; n < columns; n += kColumns) {
        uint32_t* panel = out + n / kColumns * panel_words;
        fill(panel + pairs * kColumns, panel + words * kColumns, 0u);
      }
    }
    if (step == 1) return interleave_panels(x, step_k, columns, depth, out, panel_words);
    for (int64_t n = 0; n < columns; n += kColumns, out += panel_words) {
      const int64_t lanes = min_of(kColumns, columns - n);
      const bf16* panel = x + n * step;
      if (step_k == 1 && depth % 2 == 0) {
        pack_along_rows(panel, step, lanes, depth, out);
        continue;
      }
      for (int64_t k = 0; k < pairs; ++k) {
        for (int64_t i = 0; i < kColumns; ++i)
          out[k * kColumns + i] =
              i < lanes ? pair_at(panel + i * step + 2 * k * step_k, step_k, 2 * k + 1 < depth) : 0;
      }
    }
  }

  static void pack_rows(const bf16* x, int64_t step, int64_t rows, int64_t padded, int64_t depth,
                        uint32_t* out, int64_t stride) {
    const int64_t count = words_of(depth);
    for (int64_t r = 0; r < padded; ++r, out += stride) {
      for (int64_t k = 0; k < count; k += 16) {
        const __mmask32 mask = r < rows ? column_mask(0, depth - 2 * k) : 0;
        const __m512i words = _mm512_maskz_loadu_epi16(mask, x + r * step + 2 * k);
        _mm512_mask_storeu_epi32(out + k, static_cast<__mmask16>(column_mask(0, count - k)), words);
      }
    }
  }

 private:
  /// Columns that are neighbours in memory.
  static void interleave_panels(const bf16* x, int64_t step_k, int64_t columns, int64_t depth,
                                uint32_t* out, int64_t panel_words) {
    for (int64_t k = 0; k < (depth + 1) / 2; ++k) {
      const bf16* top = x + 2 * k * step_k;
      const bool has_second = 2 * k + 1 < depth;
      if (2 * k + 17 < depth) {
        prefetch_row(top + 16 * step_k, columns);
        prefetch_row(top + 17 * step_k, columns);
      }
      for (int64_t n = 0; n < columns; n += kColumns) {
        const __mmask32 mask = column_mask(0, columns - n);
        interleave(_mm512_maskz_loadu_epi16(mask, top + n),
                   _mm512_maskz_loadu_epi16(has_second ? mask : 0, top + step_k + n),
                   out + n / kColumns * panel_words + k * kColumns);
      }
    }
  }
};

/// What becomes of a row's 32 sums.
struct PairSums {
  static void put(float* to, __m512 left, __m512 right) { set_to(to, left, right); }
  static void add(float* to, __m512 left, __m512 right) { add_to(to, left, right); }
  static void put_narrow(bf16* to, __m512 left, __m512 right) { store_bf16(to, left, right); }
  static void stream(float* to, __m512 left, __m512 right) {
    _mm512_stream_ps(to, left);
    _mm512_stream_ps(to + 16, right);
  }
  static void stream_narrow(bf16* to, __m512 left, __m512 right) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)_mm512_cvtne2ps_pbh(right, left));
  }
  static void widen(const bf16* from, __m512& left, __m512& right) {
    left = load_bf16(from);
    right = load_bf16(from + 16);
  }
};

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
