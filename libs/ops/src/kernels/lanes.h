// SPDX-License-Identifier: Apache-2.0
/// Elementwise arithmetic written once for vectors and for what is left over behind them:
///
///     for_lanes<A>(0, count, [=](auto lanes, int64_t j) { lanes.put(out + j, lanes.get(x + j) * scale); });
///
/// For loops that the compiler, left to itself, keeps scalar: several outputs, or a rounding between two uses.
#pragma once

#include <cstring>

#include "kernels/tile.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));

/// x as bfloat16, to nearest, ties to even, in the upper halves; the lower ones are noise. A NaN becomes all ones.
inline Words rounded_words(Vector<float> x) {
  const Words bits = reinterpret_cast<Words>(x);
  return (bits + ((bits >> 16 & 1u) + 0x7fffu)) | reinterpret_cast<Words>(x != x);
}

inline Vector<float> rounded_to_bf16(Vector<float> x) {
#if defined(__AVX512BF16__)
  const auto halves = (__m256i)_mm512_cvtneps_pbh(x);
  const auto words = reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(0xffff, halves));
  return reinterpret_cast<Vector<float>>(words << 16);
#else
  return reinterpret_cast<Vector<float>>(rounded_words(x) & 0xffff0000u);
#endif
}

inline void store(bf16* p, Vector<float> x) {
#if defined(__AVX512BF16__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(x));
#elif defined(__AVX512F__)
  const __m512i halves = reinterpret_cast<__m512i>(rounded_words(x) >> 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtepi32_epi16(0xffff, halves));
#else
  *reinterpret_cast<Halves*>(p) = __builtin_convertvector(rounded_words(x) >> 16, Halves);
#endif
}

/// A vector of A.
template <typename A> struct Many {
  using Value = Vector<A>;
  template <typename T> static Value get(const T* p) { return load(p); }
  /// x rounded to T and widened again.
  template <typename T> static Value round(Value x) {
    if constexpr (sizeof(T) == sizeof(A)) return x;
    if constexpr (sizeof(T) < sizeof(A)) return rounded_to_bf16(x);
  }
  template <typename T> static void put(T* p, Value x) { store(p, x); }
};

/// One number.
template <typename A> struct One {
  using Value = A;
  template <typename T> static A get(const T* p) { return wide(*p); }
  template <typename T> static A round(A x) { return rounded<T>(x); }
  template <typename T> static void put(T* p, A x) { *p = narrow<T>(x); }
};

/// body(Many, j) as often as [begin, end) has whole vectors, then body(One, j).
template <typename A, typename Body>
inline __attribute__((always_inline)) void for_lanes(int64_t begin, int64_t end, Body&& body) {
  int64_t j = begin;
  for (; j + kLanes<A> <= end; j += kLanes<A>) body(Many<A>{}, j);
  for (; j < end; ++j) body(One<A>{}, j);
}

/// A sum in lanes, for for_lanes.
template <typename A> struct LaneSum {
  Vector<A> many{};
  A one = 0;
  void add(Vector<A> x) { many += x; }
  void add(A x) { one += x; }
  A total() const {
    // In pieces of 16 bytes first: lane after lane, 16 additions would wait for one another.
    typedef A Piece __attribute__((vector_size(16)));
    constexpr int kPieces = kVectorBytes / 16, kInPiece = 16 / sizeof(A);
    Piece pieces[kPieces];
    std::memcpy(pieces, &many, sizeof(many));
    for (int i = 1; i < kPieces; ++i) pieces[0] += pieces[i];
    A sum = one;
    for (int i = 0; i < kInPiece; ++i) sum += pieces[0][i];
    return sum;
  }
};

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
