// SPDX-License-Identifier: Apache-2.0
/// A product with a weight for each group of rows: the experts of a mixture.
#pragma once

#include <torch/types.h>

namespace veomni::ops {

/// y[r] = x[r] · weight[e]ᵀ for the rows r of group e, offsets[e] <= r < offsets[e + 1].
///
/// Shapes:
///   x        [T, D]     float32, float64 or bfloat16; strided inputs are copied
///   weight   [E, N, D]  dtype and device of x, E >= 1
///   offsets  [E + 1]    int32 or int64 on the CPU, whatever the device of x: from 0 to T, never
///                       falling, as cu_seqlens; equal neighbours are an empty group
///   returns  [T, N]     dtype of x
///
/// Kernels are chosen by set_linear_backend (linear.h), for kAuto by the mean rows of the groups
/// that have some. With one group it is linear(x, weight[0]) to the last bit. By own kernels a row's
/// result depends on that row and its weight alone: not on where groups begin, on other rows or on
/// the number of threads.
///
/// Gradients: of x in its dtype; of weight in max(float32, dtype), accumulated in that precision
/// over all rows of a group, zeros for an empty one. Frozen inputs cost nothing. T == 0 is legal.
/// The offsets must not be written before backward.
/// @throws veomni::Error for shapes, dtypes, devices or offsets that do not fit.
torch::Tensor grouped_linear(torch::Tensor x_TD, torch::Tensor weight_END, torch::Tensor offsets);

}  // namespace veomni::ops
