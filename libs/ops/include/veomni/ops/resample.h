// SPDX-License-Identifier: Apache-2.0
/// More pixels, or fewer rows.
#pragma once

#include <torch/types.h>

namespace veomni::ops {

/// Every pixel four times: y[n, h, w] = x[n, h / 2, w / 2], as torch.nn.functional.interpolate with
/// scale_factor=2 and mode="nearest", with channels last.
///
/// Shapes:
///   x        [N, H, W, C]    float32, float64 or bfloat16; strided inputs are copied
///   returns  [N, 2H, 2W, C]  dtype of x
///
/// Gradient: the four values of a pixel summed in max(float32, dtype), rounded once. No elements are
/// legal. @throws veomni::Error unless x has four dimensions and a dtype with kernels.
torch::Tensor upsample_nearest2x(torch::Tensor x_NHWC);

/// y[i] = (x[2i] + x[2i + 1]) / 2 in max(float32, dtype), rounded once: half the frames of a clip.
///
/// Shapes:
///   x        [T, D]      float32, float64 or bfloat16, T even
///   returns  [T / 2, D]  dtype of x
///
/// No rows are legal. @throws veomni::Error for an odd T.
torch::Tensor mean_pairs(torch::Tensor x_TD);

}  // namespace veomni::ops
