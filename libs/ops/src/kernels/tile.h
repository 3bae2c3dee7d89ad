// SPDX-License-Identifier: Apache-2.0
/// The register tile that matrix products and attention are made of: kTileRows rows by two vectors
/// of columns.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
inline constexpr int kTileRows =
    12;  // 24 accumulators, 2 columns vectors and a broadcast in 32 registers
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
inline constexpr int kTileRows = 6;  // 12 + 2 + 1 in 16 registers
#else
inline constexpr int kVectorBytes = 16;
inline constexpr int kTileRows = 6;
#endif

template <typename A> struct VectorOf;
template <> struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef float unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
};
template <> struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef double unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
};
template <typename A> using Vector = typename VectorOf<A>::type;
template <typename A> inline constexpr int kLanes = kVectorBytes / sizeof(A);
template <typename A> inline constexpr int kTileColumns = 2 * kLanes<A>;

template <typename A> inline Vector<A> load(const A* p) {
  return *reinterpret_cast<const typename VectorOf<A>::unaligned*>(p);
}
template <typename A> inline void store(A* p, Vector<A> v) {
  *reinterpret_cast<typename VectorOf<A>::unaligned*>(p) = v;
}

/// Past the caches; p is aligned to the vector.
template <typename A> inline void stream(A* p, Vector<A> v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(reinterpret_cast<float*>(p), reinterpret_cast<__m512>(v));
#elif defined(__AVX2__)
  _mm256_stream_ps(reinterpret_cast<float*>(p), reinterpret_cast<__m256>(v));
#else
  store(p, v);
#endif
}

/// A vector's worth of bfloat16, widened.
inline Vector<float> load(const bf16* p) {
// By name: GCC 12 widens the two halves of a vector apart and joins them again. With a mask of ones, since it warns of the
// undefined operand inside the intrinsic without.
#if defined(__AVX512F__)
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  typedef uint32_t Words __attribute__((vector_size(64)));
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, halves);
  return reinterpret_cast<Vector<float>>(reinterpret_cast<Words>(wide) << 16);
#elif defined(__AVX2__)
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<Vector<float>>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
#else
  typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));
  typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
  const Words words = __builtin_convertvector(*reinterpret_cast<const Halves*>(p), Words) << 16;
  return reinterpret_cast<Vector<float>>(words);
#endif
}

/// f(r, left, right) for r < rows, the two vectors of
/// Σ_k a[r · a_row + k · a_k] · b[k · b_k + (0 … kTileColumns)].
template <int rows = kTileRows, typename A, typename B, typename F>
inline __attribute__((always_inline)) void tile_sums(const A* a, int64_t a_row, int64_t a_k,
                                                     const B* b, int64_t b_k, int64_t count,
                                                     F&& f) {
  Vector<A> left[rows], right[rows];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) {
    left[r] = right[r] = Vector<A>{};
  }
  for (int64_t k = 0; k < count; ++k) {
    const Vector<A> b0 = load(b + k * b_k), b1 = load(b + k * b_k + kLanes<A>);
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
      const A x = a[r * a_row + k * a_k];
      left[r] += x * b0;
      right[r] += x * b1;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r) f(r, left[r], right[r]);
}

/// c[r, :] (+)= Σ_k a[r · a_row + k · a_k] · b[k · b_k + (0 … kTileColumns)], r < kTileRows.
template <bool add, typename A>
inline __attribute__((always_inline)) void tile(const A* a, int64_t a_row, int64_t a_k, const A* b,
                                                int64_t b_k, int64_t count, A* c, int64_t c_row) {
  tile_sums(a, a_row, a_k, b, b_k, count, [&](int r, Vector<A> left, Vector<A> right) {
    A* out = c + r * c_row;
    if constexpr (add) {
      left += load(out);
      right += load(out + kLanes<A>);
    }
    store(out, left);
    store(out + kLanes<A>, right);
  });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
