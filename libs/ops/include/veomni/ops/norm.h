// SPDX-License-Identifier: Apache-2.0
/// Normalisation over the last dimension, and centring over rows.
#pragma once

#include <torch/types.h>

namespace veomni::ops {

/// y = weight * (x * rsqrt(mean(x²) + eps)), statistics in max(float32, dtype), the normalised
/// value rounded to the dtype of x before the product (as Hugging Face's Qwen3RMSNorm does).
///
/// Shapes:
///   x        [..., D]  [T, D] for hidden states, [T, H, K] for per-head norms
///   weight   [D]       dtype and device of x
///   returns  like x
///
/// Gradient of weight in max(float32, dtype). No rows is legal.
torch::Tensor rms_norm(torch::Tensor x, torch::Tensor weight_D, double eps);

/// y = (x − mean(x)) * rsqrt(var(x) + eps) * weight + bias, everything in max(float32, dtype),
/// rounded once. Shapes, dtypes and gradients as rms_norm; bias [D].
torch::Tensor layer_norm(torch::Tensor x, torch::Tensor weight_D, torch::Tensor bias_D, double eps);

/// y[n, t] = x[n, t] − mean over t of x[n, t], in max(float32, dtype), rounded once. Its gradient is the same map of y's.
///
/// Shapes:
///   x        [N, T, C]  float32, float64 or bfloat16
///   returns  like x
///
/// No elements are legal.
torch::Tensor center_rows(torch::Tensor x_NTC);

}  // namespace veomni::ops
