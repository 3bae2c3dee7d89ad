// SPDX-License-Identifier: Apache-2.0
#include "update.h"

#include <cmath>
#include <cstring>

namespace veomni::optim::kernels {

namespace {

// Round to nearest even, as at::BFloat16 does; NaN stays NaN.
inline uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <typename T>
void adamw_impl(T* master, const T* grad, T* exp_avg, T* exp_avg_sq, uint16_t* compute_bf16,
                int64_t begin, int64_t end, const AdamwScalars& s) {
  const T scale = static_cast<T>(s.grad_scale), keep = static_cast<T>(1 - s.lr * s.weight_decay);
  const T one_minus_beta1 = static_cast<T>(1 - s.beta1), beta2 = static_cast<T>(s.beta2);
  const T one_minus_beta2 = static_cast<T>(1 - s.beta2),
          step_size = static_cast<T>(s.lr / s.correction1);
  const T root2 = static_cast<T>(s.root_correction2), eps = static_cast<T>(s.eps);
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const T g = grad[i] * scale;
    const T m = exp_avg[i] + (g - exp_avg[i]) * one_minus_beta1;
    const T v = exp_avg_sq[i] * beta2 + g * g * one_minus_beta2;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    master[i] = master[i] * keep - step_size * (m / (std::sqrt(v) / root2 + eps));
  }
  if (compute_bf16) {
    for (int64_t i = begin; i < end; ++i) compute_bf16[i] = to_bf16(static_cast<float>(master[i]));
  }
}

template <typename T>
void sgd_impl(T* master, const T* grad, T* momentum, uint16_t* compute_bf16, int64_t begin,
              int64_t end, const SgdScalars& s) {
  const T scale = static_cast<T>(s.grad_scale), decay = static_cast<T>(s.weight_decay);
  const T lr = static_cast<T>(s.lr), mu = static_cast<T>(s.momentum);
  for (int64_t i = begin; i < end; ++i) {
    T g = grad[i] * scale + decay * master[i];
    if (momentum) g = momentum[i] = s.first ? g : mu * momentum[i] + g;
    master[i] -= lr * g;
    if (compute_bf16) compute_bf16[i] = to_bf16(static_cast<float>(master[i]));
  }
}

}  // namespace

void adamw(float* master, const float* grad, float* exp_avg, float* exp_avg_sq,
           uint16_t* compute_bf16, int64_t begin, int64_t end, const AdamwScalars& s) {
  adamw_impl(master, grad, exp_avg, exp_avg_sq, compute_bf16, begin, end, s);
}
void adamw(double* master, const double* grad, double* exp_avg, double* exp_avg_sq,
           uint16_t* compute_bf16, int64_t begin, int64_t end, const AdamwScalars& s) {
  adamw_impl(master, grad, exp_avg, exp_avg_sq, compute_bf16, begin, end, s);
}
void sgd(float* master, const float* grad, float* momentum, uint16_t* compute_bf16, int64_t begin,
         int64_t end, const SgdScalars& s) {
  sgd_impl(master, grad, momentum, compute_bf16, begin, end, s);
}
void sgd(double* master, const double* grad, double* momentum, uint16_t* compute_bf16,
         int64_t begin, int64_t end, const SgdScalars& s) {
  sgd_impl(master, grad, momentum, compute_bf16, begin, end, s);
}

}  // namespace veomni::optim::kernels
