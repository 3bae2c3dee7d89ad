// SPDX-License-Identifier: Apache-2.0
/// e^x and what is made of it, in forms that compilers turn into vector code; the C library's are a
/// call per element (its vector forms need -ffinite-math-only, under which a NaN could pass
/// unseen). In double they are the C library's.
#pragma once

#include <cmath>

#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// The lower of x and limit, which is above 0; a NaN with a plus sign gives the limit. In integers,
/// which have a minimum: of floats there is none as long as NaNs count, and compilers take a
/// selection between x and a constant apart into two copies of all that follows.
inline float at_most(float x, float limit) {
  const int32_t bits = __builtin_bit_cast(int32_t, x), top = __builtin_bit_cast(int32_t, limit);
  return __builtin_bit_cast(float, bits < top ? bits : top);
}
/// The higher of x and limit, which is below 0, where higher bits are lower numbers; a NaN with a
/// minus sign gives the limit.
inline float at_least(float x, float limit) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x),
                 bottom = __builtin_bit_cast(uint32_t, limit);
  return __builtin_bit_cast(float, bits < bottom ? bits : bottom);
}

/// 2^(t + rest) for -126.49 < t < 128 and a rest that t lost to rounding; 0 below -125.5, where the result would (nearly) be
/// denormal. Error below 2e-7, relative.
inline float exp2_within(float t, float rest = 0) {
  // 3 · 2^22 leaves the nearest whole number n in the last bits of the sum. In integers from here:
  // -ffast-math would cancel the constant.
  const uint32_t n = __builtin_bit_cast(uint32_t, t + 12582912.f);
  const float f = t - static_cast<float>(static_cast<int32_t>(n - 0x4b400000u)) + rest;
  // 2 · 2^f on [-1/2, 1/2], by Remez for the relative error, which is 2e-9. The factor 2 makes the
  // other one 2^(n - 1), a float for n = 128 as well.
  float p = 0.000306916243f;
  p = p * f + 0.00267998624f;
  p = p * f + 0.0192369779f;
  p = p * f + 0.111006576f;
  p = p * f + 0.480452938f;
  p = p * f + 1.38629441f;
  p = p * f + 2.f;
  // The shift drops all of the constant. At n = -126 the exponent's field is 0: the float is 0.
  return p * __builtin_bit_cast(float, (n << 23) + (126u << 23));
}

inline double exp_of(double x) { return std::exp(x); }

/// 0 below -86.99, at most 2^128 · (1 - 2^-9); NaN stays NaN. Error below 2e-7, relative, and 8e-8 · |x| more without fused
/// multiply-add: 2^t with t = x · log2(e), and what rounding took from t. Softmaxes need it: what their weights miss of a sum of 1
/// is all that remains where a gradient cancels.
inline float exp_of(float x) {
  const float within = at_least(at_most(x, 88.72f), -87.5f), t = within * 1.44269504f;
#if defined(__FMA__)
  const float rest =
      __builtin_fmaf(within, 1.92596299e-8f, __builtin_fmaf(within, 1.44269504f, -t));
#else
  const float rest = 0;
#endif
  const float y = exp2_within(t, rest);
  return x != x ? x : y;
}

/// 1 / (1 + e^-x). In float a NaN gives a number: it is for products with x, which are NaN then.
inline double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }
inline float sigmoid_of(float x) {
  return 1.f / (1.f + exp2_within(at_least(at_most(x, 87.5f), -88.72f) * -1.44269504f));
}

/// tanh with an absolute error of about 1e-7.
inline double tanh_of(double x) { return std::tanh(x); }
inline float tanh_of(float x) { return 1.f - 2.f / (exp_of(2.f * x) + 1.f); }

/// The standard normal distribution at x; a NaN gives numbers, as sigmoid_of.
template <typename A> struct Normal {
  A cdf;   ///< Φ(x)
  A bell;  ///< e^(-x²/2)
};

inline Normal<double> normal_of(double x) {
  return {0.5 * std::erfc(-x * M_SQRT1_2), std::exp(-0.5 * x * x)};
}

/// Φ with an absolute error of 1.6e-7, and 0 below -13.19.
inline Normal<float> normal_of(float x) {
  const float u = at_most(__builtin_fabsf(x), 13.23f);
  const float bell = exp2_within(u * u * -0.72134752f);
  // Φ(-u) = bell · p(u) / q(u). The quotient is fitted to e^(u²/2) · erfc(u / √2) / 2 on [0, 6], by
  // least squares reweighted until the relative error is level (Lawson): 6.1e-8. Beyond it grows,
  // to 3e-05 at 13.2, but there Φ itself is below 1e-9.
  float p = 0.0136326923f;
  p = p * u + 0.104482031f;
  p = p * u + 0.334602052f;
  p = p * u + 0.49999997f;
  float q = 0.034192674f;
  q = q * u + 0.261345058f;
  q = q * u + 0.879562905f;
  q = q * u + 1.46708506f;
  q = q * u + 1.f;
  const float tail = bell * p / q;
  return {x > 0 ? 1.f - tail : tail, bell};
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
