// SPDX-License-Identifier: Apache-2.0
/// Convolution of pictures and, with a height of 1, of sequences.
#pragma once

#include <torch/types.h>

namespace veomni::ops {

struct Conv2dOptions {
  int64_t stride_h = 1, stride_w = 1;  ///< Pixels from one window to the next.
  int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;  ///< Pixels of zeros around x.
};

/// y[n, h, w, o] = bias[o] + Σ_{i, j, c} x[n, h·stride_h + i − pad_top, w·stride_w + j − pad_left, c]
/// · weight[o, c, i, j], as torch.nn.functional.conv2d, with channels last.
///
/// Shapes:
///   x        [N, H, W, C]    float32, float64 or bfloat16; strided inputs are copied
///   weight   [O, C, kh, kw]  dtype and device of x, in Hugging Face's order
///   bias     [O]             or undefined
///   returns  [N, H', W', O]  dtype of x, H' = (H + pad_top + pad_bottom − kh) / stride_h + 1
///
/// A sequence is a picture of H = 1 under a kernel of kh = 1. Gradients as linear's: of x in its
/// dtype, of weight and bias in max(float32, dtype). Nothing but x is kept for backward; workspace
/// is a few lines of a picture, or with a stride the windows of a chunk of rows (about a million
/// elements). N == 0 is legal: y is empty and the gradients of weight and bias are zeros.
/// @throws veomni::Error for shapes, dtypes or devices that do not fit, or a kernel larger than the
/// padded picture.
torch::Tensor conv2d(torch::Tensor x_NHWC, torch::Tensor weight_OCKK, torch::Tensor bias_O = {},
                     Conv2dOptions options = {});

}  // namespace veomni::ops
