// SPDX-License-Identifier: Apache-2.0
/// The register tile and the packing of the AVX512-BF16 kernels: vdpbf16ps multiplies pairs of
/// bfloat16 and adds both products to a float, so every operand is laid out in pairs along the
/// reduction, one pair a 32-bit word. Only for files compiled with -mavx512bf16.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/matmul_plan.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

inline constexpr int kRows =
    12;  // 24 accumulators, two columns vectors and a broadcast in 32 registers
inline constexpr int kColumns = 32;

inline __m512 load_bf16(const bf16* p) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
/// 32 floats to 32 bfloat16.
inline void store_bf16(bf16* p, __m512 left, __m512 right) {
  _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(right, left));
}
inline constexpr float kLog2E = 1.44269504f, kLog2 = 0.693147181f;

/// 2^x, relative error below 2e-7; 0 below -126, as the float result would be denormal.
inline __m512 exp2_512(__m512 x) {
  // Adding 1.5 · 2^23 rounds to a whole number. The form with a rounding mode is not folded by -ffast-math.
  const __m512 magic = _mm512_set1_ps(12582912.f);
  const __m512 n = _mm512_sub_round_ps(
      _mm512_add_round_ps(x, magic, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), magic,
      _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(x, n);
  // The polynomial of the fifth degree whose largest relative error on [-1/2, 1/2] is least: 7.5e-8.
  __m512 p = _mm512_set1_ps(1.327647205e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.675541385e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.550713274e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.402211972e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931469671e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.000000072f));
  const __mmask16 normal =
      _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.f), _CMP_NLT_UQ);  // NaN stays NaN
  return _mm512_maskz_scalef_ps(normal, p, n);
}

/// 2^(x · 2^-23) where |x| < 100 · 2^23, relative error below 5e-6: nothing is looked after but finite x.
inline __m512 exp2_bounded(__m512 x) {
  const __m512i i = _mm512_cvtps_epi32(x), fraction = _mm512_set1_epi32(0x7fffff);
  // Whole powers are the exponent's bits already; the fraction's become a number in [1, 2).
  const __m512 m = _mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(i, fraction, _mm512_set1_epi32(0x3f800000), 0xea));
  // 2^(m - 1) by the polynomial of the fourth degree whose largest relative error is least: 2.6e-6.
  __m512 p = _mm512_set1_ps(1.35341680e-2f);
  p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(-2.12521094e-3f));
  p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(1.66613381e-1f));
  p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(3.12016033e-1f));
  p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(5.09964222e-1f));
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_castps_si512(p), _mm512_andnot_si512(fraction, i)));
}

/// Bits i of a tile's 32 columns with begin <= i < end.
inline uint32_t column_mask(int64_t begin, int64_t end) {
  if (begin >= end || begin >= kColumns || end <= 0) return 0;
  const uint32_t below_end = end >= kColumns ? ~0u : (1u << end) - 1;
  return begin <= 0 ? below_end : below_end & ~((1u << begin) - 1);
}

/// f(r, left, right) for r < rows with the sums over k of a[r · a_row + k · a_k] · b[k · kColumns
/// + …], k in pairs.
template <int rows = kRows, typename F>
inline __attribute__((always_inline)) void tile_pairs(const uint32_t* a, int64_t a_row, int64_t a_k,
                                                      const uint32_t* b, int64_t b_k, int64_t pairs,
                                                      F&& f) {
  __m512 left[rows], right[rows];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    left[r] = right[r] = _mm512_setzero_ps();
  }
#pragma GCC unroll 2
  for (int64_t k = 0; k < pairs; ++k) {
    const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + k * b_k),
                   b1 = (__m512bh)_mm512_loadu_si512(b + k * b_k + 16);
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[r * a_row + k * a_k]));
      left[r] = _mm512_dpbf16_ps(left[r], x, b0);
      right[r] = _mm512_dpbf16_ps(right[r], x, b1);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) f(r, left[r], right[r]);
}

/// Two rows of 16 floats as words of their bfloat16: out[i] = top[i] | below[i] << 16.
inline void store_pairs(uint32_t* out, __m512 top, __m512 below) {
  alignas(64) static const uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                  21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                  11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  _mm512_storeu_si512(out, _mm512_permutexvar_epi16(_mm512_load_si512(kOrder),
                                                    (__m512i)_mm512_cvtne2ps_pbh(below, top)));
}

inline void add_to(float* out, __m512 left, __m512 right) {
  _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), left));
  _mm512_storeu_ps(out + 16, _mm512_add_ps(_mm512_loadu_ps(out + 16), right));
}
inline void set_to(float* out, __m512 left, __m512 right) {
  _mm512_storeu_ps(out, left);
  _mm512_storeu_ps(out + 16, right);
}

/// Words of row i from column 0 on. Rows may start at any 2-byte address; x86 loads do not mind.
inline const uint32_t* words(const bf16* row) { return reinterpret_cast<const uint32_t*>(row); }

/// Transposes 16 x 16 words, one vector a row.
inline void transpose_words(__m512i r[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

/// Transposes 16 rows of 16 words: out[k · kColumns + i] = row i, word k.
inline void transpose_16x16(const bf16* x, int64_t stride, uint32_t* out) {
  __m512i r[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(x + i * stride);
  transpose_words(r);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + i * kColumns, r[i]);
}

/// Pairs along a row: out[panel][k / 2][lane] = x[panel · kColumns + lane, k … k + 1]; missing rows
/// are zero.
inline void pack_along_rows(const bf16* x, int64_t stride, int64_t rows, int64_t width,
                            uint32_t* out) {
  const int64_t pairs = width / 2;
  for (int64_t p = 0; p < rows; p += kColumns, out += pairs * kColumns) {
    const int64_t lanes = min_of(kColumns, rows - p);
    const bf16* panel = x + p * stride;
    int64_t done = 0;
    if (lanes == kColumns) {
      for (; done + 16 <= pairs; done += 16) {
        transpose_16x16(panel + 2 * done, stride, out + done * kColumns);
        transpose_16x16(panel + 16 * stride + 2 * done, stride, out + done * kColumns + 16);
      }
    }
    for (int64_t k = done; k < pairs; ++k) {
      for (int64_t i = 0; i < kColumns; ++i) {
        uint32_t word = 0;
        if (i < lanes) std::memcpy(&word, panel + i * stride + 2 * k, sizeof word);
        out[k * kColumns + i] = word;
      }
    }
  }
}

/// Rows in tiles: out[tile][k / 2][row] = x[tile · kRows + row, k … k + 1], zero rows up to a multiple of kRows. A tile's words lie
/// at constant distances then, which keeps them in the instructions that read them. Writes up to 4 words more.
inline void pack_row_tiles(const bf16* x, int64_t stride, int64_t rows, int64_t width,
                           uint32_t* out) {
  const int64_t pairs = width / 2;
  for (int64_t r = 0; r < rows; r += kRows) {
    for (int64_t p = 0; p < pairs; p += 16) {
      __m512i words[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        const __mmask32 mask = i < kRows && r + i < rows ? column_mask(0, width - 2 * p) : 0;
        words[i] = _mm512_maskz_loadu_epi16(mask, x + (r + i) * stride + 2 * p);
      }
      transpose_words(words);
#pragma GCC unroll 16
      for (int64_t i = 0; i < 16; ++i) {
        if (p + i < pairs) _mm512_storeu_si512(out + i * kRows, words[i]);
      }
      out += min_of(16, pairs - p) * kRows;
    }
  }
}

/// low[i] | high[i] << 16 for 32 columns: 16 in `first` and 16 in `second`.
struct Interleaved {
  __m512i first, second;
};
inline Interleaved interleave(__m512i low, __m512i high) {
  alignas(64) static const uint16_t kFirst[32] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                                  37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                                  11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i first = _mm512_load_si512(kFirst),
                second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  return {_mm512_permutex2var_epi16(low, first, high),
          _mm512_permutex2var_epi16(low, second, high)};
}
inline void interleave(__m512i low, __m512i high, uint32_t* out) {
  const Interleaved words = interleave(low, high);
  _mm512_storeu_si512(out, words.first);
  _mm512_storeu_si512(out + 16, words.second);
}

/// Pairs down the rows: out[r / 2][c] = x[r … r + 1, c] for `columns` (a multiple of kColumns)
/// columns, zero past `width` and past `rows`, for round_up(rows, 2) / 2 pairs.
inline void pack_down_rows(const bf16* x, int64_t stride, int64_t rows, int64_t width,
                           int64_t columns, uint32_t* out) {
  for (int64_t r = 0; r < rows; r += 2, out += columns) {
    const bf16* top = x + r * stride;
    for (int64_t c = 0; c < columns; c += kColumns) {
      const __mmask32 mask = column_mask(0, width - c);
      const __m512i low = _mm512_maskz_loadu_epi16(mask, top + c);
      const __m512i high = _mm512_maskz_loadu_epi16(r + 1 < rows ? mask : 0, top + stride + c);
      interleave(low, high, out + c);
    }
  }
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
