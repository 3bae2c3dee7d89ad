// SPDX-License-Identifier: Apache-2.0
/// Normalisation of pictures over groups of channels.
#pragma once

#include <torch/types.h>

namespace veomni::ops {

/// y = (x − mean) * rsqrt(var + eps) * weight + bias, then y * sigmoid(y) if `silu`. Mean and
/// (biased) variance are taken per picture and group of C / groups neighbouring channels, over all
/// pixels. Everything in max(float32, dtype), rounded once. As torch.nn.functional.group_norm, with
/// channels last.
///
/// Shapes:
///   x             [N, H, W, C]  float32, float64 or bfloat16; strided inputs are copied
///   weight, bias  [C]           dtype and device of x
///   returns       [N, H, W, C]  dtype of x
///
/// Gradients: of x in its dtype, of weight and bias in max(float32, dtype). Kept for backward: x and
/// two numbers per group. No pictures or pixels are legal: y is empty and the gradients of weight
/// and bias are zeros.
/// @throws veomni::Error for shapes, dtypes or devices that do not fit, or groups that do not divide
/// C.
torch::Tensor group_norm(torch::Tensor x_NHWC, torch::Tensor weight_C, torch::Tensor bias_C,
                         int64_t groups, double eps, bool silu = false);

}  // namespace veomni::ops
