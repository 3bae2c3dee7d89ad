// SPDX-License-Identifier: Apache-2.0
/// Attention by AMX's tiles. Scores are made transposed, keys down and kAmxRows queries across: what a softmax does with
/// a query's scores is then done lane by lane, and probabilities of neighbouring keys become the pairs that a product
/// over keys reads.
#pragma once

#include "kernels/amx.h"
#include "kernels/attention_bf16.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

static_assert(kAmxRows == kColumns && kAmxRows == 2 * kTileSide && kAmxRows == kTileTerms);

/// A value for each of kAmxRows queries.
struct Lanes {
  __m512 left, right;
};
inline Lanes load_lanes(const float* x) { return {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)}; }
inline Lanes all_lanes(float x) { return {_mm512_set1_ps(x), _mm512_set1_ps(x)}; }

/// The natural logarithm, error below 2e-7 of the larger of it and 1; -inf for 0.
inline __m512 log_512(__m512 x) {
  // x = m · 2^e with m in [3/4, 3/2), and ln m = 2 artanh((m - 1) / (m + 1)).
  const __m512 m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src),
               e = _mm512_getexp_ps(_mm512_div_ps(x, m)), one = _mm512_set1_ps(1.f);
  const __m512 s = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one)),
               s2 = _mm512_mul_ps(s, s);
  __m512 p = _mm512_set1_ps(2.f / 11);
  p = _mm512_fmadd_ps(p, s2, _mm512_set1_ps(2.f / 9));
  p = _mm512_fmadd_ps(p, s2, _mm512_set1_ps(2.f / 7));
  p = _mm512_fmadd_ps(p, s2, _mm512_set1_ps(2.f / 5));
  p = _mm512_fmadd_ps(p, s2, _mm512_set1_ps(2.f / 3));
  p = _mm512_fmadd_ps(p, s2, _mm512_set1_ps(2.f));
  return _mm512_fmadd_ps(e, _mm512_set1_ps(kLog2), _mm512_mul_ps(p, s));
}

/// Two rows of kAmxRows floats as words of their bfloat16: out[i] = top[i] | below[i] << 16. Rounds to nearest by
/// integers, which is cheaper here than the conversion and a permutation.
inline void store_pairs(uint32_t* out, Lanes top, Lanes below) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(-65536);
  const auto pairs = [&](__m512 low, __m512 high) {
    const __m512i l = _mm512_add_epi32(_mm512_castps_si512(low), half),
                  h = _mm512_add_epi32(_mm512_castps_si512(high), half);
    return _mm512_ternarylogic_epi32(h, upper, _mm512_srli_epi32(l, 16), 0xea);
  };
  _mm512_storeu_si512(out, pairs(top.left, below.left));
  _mm512_storeu_si512(out + 16, pairs(top.right, below.right));
}

/// The largest squared norm of a panel's rows in pack_columns' layout.
inline float largest_norm(const uint32_t* columns, int64_t width) {
  Lanes norm = all_lanes(0);
  for (int64_t k = 0; k < width / 2; ++k, columns += kAmxRows) {
    const auto left = (__m512bh)_mm512_loadu_si512(columns),
               right = (__m512bh)_mm512_loadu_si512(columns + 16);
    norm = {_mm512_dpbf16_ps(norm.left, left, left), _mm512_dpbf16_ps(norm.right, right, right)};
  }
  const __mmask16 nan = _mm512_cmp_ps_mask(norm.left, norm.right, _CMP_UNORD_Q);
  return nan ? __builtin_nanf("") : _mm512_reduce_max_ps(_mm512_max_ps(norm.left, norm.right));
}

/// kAmxRows rows of x as columns: out[k / 2][i] = x[i, k … k + 1], zeros past `rows` and past `width` up to `columns`, a
/// multiple of kTileTerms.
inline void pack_columns(HeadRows<bf16> x, int64_t rows, int64_t width, int64_t columns,
                         uint32_t* out) {
  for (int64_t k = 0; k < columns; k += kTileTerms, out += kTileSide * kColumns) {
    const __mmask32 mask = column_mask(0, width - k);
    for (int half = 0; half < 2; ++half) {
      __m512i r[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        const int64_t row = 16 * half + i;
        r[i] = _mm512_maskz_loadu_epi16(row < rows ? mask : 0, x.data + row * x.stride + k);
      }
      transpose_words(r);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + i * kColumns + 16 * half, r[i]);
    }
  }
}

/// Rows become columns in squares of kTileTerms: [rows / kTileTerms][columns][kTileTerms] values, zeros up to whole
/// squares.
inline void pack_squares(HeadRows<bf16> x, int64_t rows, int64_t width, int64_t columns,
                         uint32_t* out) {
  for (int64_t r = 0; r < rows; r += kTileTerms) {
    for (int64_t c = 0; c < columns; c += kAmxRows, out += kAmxRows * kTileSide) {
      transpose_square(x.data + r * x.stride + c, x.stride, width - c, rows - r, out, kTileSide);
    }
  }
}

/// As add_products, but kTileTerms terms further a lies `a_step` words on.
inline void add_steps(const uint32_t* a, int64_t a_stride, int64_t a_step, const uint32_t* b,
                      int64_t b_stride, int64_t steps) {
  for (int64_t k = 0; k < steps; ++k, a += a_step, b += kTileSide * b_stride)
    add_step(a, a_stride, b, b_stride);
}

/// out[c, i] = sums[i, c] · scale[i] for i < rows and c < columns of a [columns padded][kAmxRows] array of sums.
inline void write_transposed(const float* sums, int64_t rows, int64_t columns, Lanes scale,
                             bf16* out, int64_t stride) {
  for (int64_t c = 0; c < columns; c += 16) {
    for (int half = 0; half < 2; ++half) {
      __m512i r[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        r[i] = _mm512_castps_si512(
            _mm512_mul_ps(_mm512_loadu_ps(sums + (c + i) * kAmxRows + 16 * half),
                          half ? scale.right : scale.left));
      }
      transpose_words(r);
      const __mmask16 mask = static_cast<__mmask16>(column_mask(0, columns - c));
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        if (16 * half + i < rows) {
          _mm256_mask_storeu_epi16(out + (16 * half + i) * stride + c, mask,
                                   (__m256i)_mm512_cvtneps_pbh(_mm512_castsi512_ps(r[i])));
        }
      }
    }
  }
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
