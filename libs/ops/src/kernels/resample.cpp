// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/kernel_list.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> void repeat_pixels(const RepeatPixels& a) {
  const int64_t line = a.width * a.channels;
#pragma omp parallel for schedule(static) if (a.lines * line > kParallelGrain / 4)
  for (int64_t h = 0; h < a.lines; ++h) {
    const T* x = static_cast<const T*>(a.x) + h * line;
    T* out = static_cast<T*>(a.out) + 4 * h * line;
    for (int64_t w = 0; w < a.width; ++w) {
      std::memcpy(out + 2 * w * a.channels, x + w * a.channels, a.channels * sizeof(T));
      std::memcpy(out + (2 * w + 1) * a.channels, x + w * a.channels, a.channels * sizeof(T));
    }
    std::memcpy(out + 2 * line, out, 2 * line * sizeof(T));
  }
}

template <typename T> void sum_pixels(const SumPixels& a) {
  const int64_t line = a.width * a.channels;
#pragma omp parallel for schedule(static) if (a.lines * line > kParallelGrain / 4)
  for (int64_t h = 0; h < a.lines; ++h) {
    for (int64_t w = 0; w < a.width; ++w) {
      const T* upper = static_cast<const T*>(a.x) + 4 * h * line + 2 * w * a.channels;
      const T* lower = upper + 2 * line;
      T* out = static_cast<T*>(a.out) + h * line + w * a.channels;
#pragma omp simd
      for (int64_t c = 0; c < a.channels; ++c) {
        out[c] = narrow<T>((wide(upper[c]) + wide(upper[c + a.channels])) +
                           (wide(lower[c]) + wide(lower[c + a.channels])));
      }
    }
  }
}

template <typename T> void mean_pairs(const MeanPairs& a) {
#pragma omp parallel for schedule(static) if (a.pairs * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.pairs; ++i) {
    const T* x = static_cast<const T*>(a.x) + 2 * i * a.width;
    T* out = static_cast<T*>(a.out) + i * a.width;
#pragma omp simd
    for (int64_t c = 0; c < a.width; ++c)
      out[c] = narrow<T>((wide(x[c]) + wide(x[c + a.width])) * Acc<T>(0.5));
  }
}

template <typename T> void spread_pairs(const SpreadPairs& a) {
#pragma omp parallel for schedule(static) if (a.pairs * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.pairs; ++i) {
    const T* x = static_cast<const T*>(a.x) + i * a.width;
    T* out = static_cast<T*>(a.out) + 2 * i * a.width;
#pragma omp simd
    for (int64_t c = 0; c < a.width; ++c) out[c] = narrow<T>(wide(x[c]) * Acc<T>(0.5));
    std::memcpy(out + a.width, out, a.width * sizeof(T));
  }
}

}  // namespace

void run(const RepeatPixels& a) {
  for_type(a.dtype, [&](auto t) { repeat_pixels<decltype(t)>(a); });
}
void run(const SumPixels& a) {
  for_type(a.dtype, [&](auto t) { sum_pixels<decltype(t)>(a); });
}
void run(const MeanPairs& a) {
  for_type(a.dtype, [&](auto t) { mean_pairs<decltype(t)>(a); });
}
void run(const SpreadPairs& a) {
  for_type(a.dtype, [&](auto t) { spread_pairs<decltype(t)>(a); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
