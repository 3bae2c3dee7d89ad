// SPDX-License-Identifier: Apache-2.0
/// e^x that compilers turn into vector code; the C library's is a call per element (its vector
/// forms need -ffinite-math-only, under which a NaN could pass unseen).
#pragma once

#include <cmath>

#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

inline double exp_of(double x) { return std::exp(x); }

/// 0 below -104 (by underflow), at most 2^128 · (1 − 2^-24); NaN stays NaN. Error below 2e-7 plus
/// 4e-8 · |x|, relative: 2^t with t = x · log2(e) rounded once. Where |x| is large e^x is a small
/// term of some sum.
inline float exp_of(float x) {
  const float high = x > 88.72f ? 88.72f : x, clamped = high < -150.f ? -150.f : high;
  const float t = clamped * 1.44269504f;
  const int n = static_cast<int>(t + __builtin_copysignf(0.5f, t));
  const float f = t - static_cast<float>(n);
  // Taylor's coefficients ln(2)^k / k! of 2^f on [-1/2, 1/2].
  float p = 1.54035304e-4f;
  p = p * f + 1.33335581e-3f;
  p = p * f + 9.61812911e-3f;
  p = p * f + 5.55041087e-2f;
  p = p * f + 2.40226507e-1f;
  p = p * f + 6.93147181e-1f;
  p = p * f + 1.f;
  // In two factors: neither 2^128 nor 2^-216 is a float.
  const int half = n >> 1;
  return p * __builtin_bit_cast(float, (half + 127) << 23) *
         __builtin_bit_cast(float, (n - half + 127) << 23);
}

/// tanh with an absolute error of about 1e-7.
inline double tanh_of(double x) { return std::tanh(x); }
inline float tanh_of(float x) { return 1.f - 2.f / (exp_of(2.f * x) + 1.f); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
