// SPDX-License-Identifier: Apache-2.0
/// One-pass optimizer updates on plain pointers; a compute copy of bf16 (as raw bits) or of the master's own type.
#pragma once

#include <cstdint>

namespace veomni::optim::kernels {

struct AdamwScalars {
  double lr, beta1, beta2, eps, weight_decay, grad_scale;
  double correction1;       ///< 1 - beta1^t
  double root_correction2;  ///< sqrt(1 - beta2^t)
};

/// [begin, end) of every array. `compute_bf16` may be null.
void adamw(float* master, const float* grad, float* exp_avg, float* exp_avg_sq,
           uint16_t* compute_bf16, int64_t begin, int64_t end, const AdamwScalars& s);
void adamw(double* master, const double* grad, double* exp_avg, double* exp_avg_sq,
           uint16_t* compute_bf16, int64_t begin, int64_t end, const AdamwScalars& s);

struct SgdScalars {
  double lr, momentum, weight_decay, grad_scale;
  bool first;  ///< the first step: the momentum buffer starts as the gradient
};

/// `momentum` may be null when s.momentum is 0.
void sgd(float* master, const float* grad, float* momentum, uint16_t* compute_bf16, int64_t begin,
         int64_t end, const SgdScalars& s);
void sgd(double* master, const double* grad, double* momentum, uint16_t* compute_bf16,
         int64_t begin, int64_t end, const SgdScalars& s);

}  // namespace veomni::optim::kernels
