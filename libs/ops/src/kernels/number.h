// SPDX-License-Identifier: Apache-2.0
/// bfloat16, and the precision each dtype is computed in. Only for files compiled once per level.
#pragma once

#include <cstdint>

#include "kernels/args.h"

#ifndef VEOMNI_LEVEL
#define VEOMNI_LEVEL portable
#endif

// Everything is in the level's own namespace: an inline function compiled for AVX-512 must never be
// the copy that the linker keeps for an older processor.
namespace veomni::ops::kernels::VEOMNI_LEVEL {

struct bf16 {
  uint16_t bits;
};

template <typename T> struct AccOf { using type = float; };
template <> struct AccOf<double> { using type = double; };
template <typename T> using Acc = typename AccOf<T>::type;

inline float wide(float x) { return x; }
inline double wide(double x) { return x; }
inline float wide(bf16 x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16); }

/// The float whose upper half is x as bfloat16, to nearest, ties to even; its lower half is noise.
/// A NaN keeps its sign and becomes quiet; rounding alone could carry it into zero.
inline uint32_t rounded_bits(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  return x != x ? bits | 0x400000u : bits + 0x7fffu + ((bits >> 16) & 1u);
}

template <typename T> inline T narrow(Acc<T> x) { return x; }
template <> inline bf16 narrow<bf16>(float x) {
  return bf16{static_cast<uint16_t>(rounded_bits(x) >> 16)};
}
/// x rounded to T and widened again.
template <typename T> inline Acc<T> rounded(Acc<T> x) { return x; }
template <> inline float rounded<bf16>(float x) {
  return __builtin_bit_cast(float, rounded_bits(x) & 0xffff0000u);
}

/// Calls body(T{}) with the C++ type of dtype.
template <typename Body> inline void for_type(DType dtype, Body body) {
  switch (dtype) {
    case DType::kFloat: return body(float{});
    case DType::kDouble: return body(double{});
    case DType::kBFloat16: return body(bf16{});
  }
}

// Below this many elements a parallel region costs more than it saves.
inline constexpr int64_t kParallelGrain = 32768;

/// Calls body(begin, end) for spans of [0, count), in parallel where it pays. The loop over a span
/// is the caller's: GCC 12 leaves a loop that is `parallel for simd` itself scalar.
template <typename Body> inline void for_spans(int64_t count, const Body& body) {
  constexpr int64_t kSpan = 4096;
#pragma omp parallel for schedule(static) if (count > kParallelGrain)
  for (int64_t begin = 0; begin < count; begin += kSpan)
    body(begin, begin + kSpan < count ? begin + kSpan : count);
}

template <typename A> inline void fill(A* begin, A* end, A value) {
  for (; begin < end; ++begin) *begin = value;
}

/// The highest of x and `start`; NaNs are passed over. In independent lanes: as one running maximum
/// it would not become vector code while NaNs are respected.
template <typename T> inline Acc<T> highest_of(const T* x, int64_t count, Acc<T> start) {
  constexpr int64_t kLanesAtOnce = 32;
  Acc<T> top[kLanesAtOnce];
  for (int64_t i = 0; i < kLanesAtOnce; ++i) top[i] = start;
  int64_t j = 0;
  for (; j + kLanesAtOnce <= count; j += kLanesAtOnce) {
    for (int64_t i = 0; i < kLanesAtOnce; ++i)
      top[i] = wide(x[j + i]) > top[i] ? wide(x[j + i]) : top[i];
  }
  for (; j < count; ++j) top[0] = wide(x[j]) > top[0] ? wide(x[j]) : top[0];
  for (int64_t i = 1; i < kLanesAtOnce; ++i) top[0] = top[i] > top[0] ? top[i] : top[0];
  return top[0];
}

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
