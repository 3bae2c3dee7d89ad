// SPDX-License-Identifier: Apache-2.0
/// What vector quantisation is made of: the nearest code, rows of length 1, distances as losses.
#pragma once

#include <torch/types.h>

namespace veomni::ops {

/// For every row of x the index of the code at the smallest squared Euclidean distance
/// Σ_e (x[r, e] − codebook[c, e])², computed so (not expanded into products) in
/// max(float32, dtype); the lowest index among equals.
///
/// Shapes:
///   x         [R, E]  float32, float64 or bfloat16; strided inputs are copied
///   codebook  [C, E]  dtype and device of x, C >= 1
///   returns   [R]     int64 on x's device
///
/// Has no gradient. A distance that is NaN is never the smallest; where all are, the index is 0.
/// R == 0 is legal. @throws veomni::Error for shapes that do not fit or an empty codebook.
torch::Tensor nearest_code(torch::Tensor x_RE, torch::Tensor codebook_CE);

/// y = x / max(‖x‖₂, eps) row by row, as torch.nn.functional.normalize(x, dim=-1), in
/// max(float32, dtype), rounded once.
///
/// x [..., E] -> [..., E], dtype of x. Gradient: (dy − y (y · dy)) / ‖x‖, and dy / eps for a row
/// shorter than eps. No rows are legal.
torch::Tensor l2_normalize(torch::Tensor x_RE, double eps = 1e-12);

/// scale · Σ (a − b)² over all elements.
///
/// a, b [...] of one shape, dtype and device -> 0-d, max(float32, dtype). The sum is made in blocks
/// that do not depend on the number of threads. Gradients in the dtype of a and b, to whichever
/// needs one. No elements are legal: an exact 0 that keeps the graph.
/// @throws veomni::Error for shapes, dtypes or devices that differ.
torch::Tensor squared_error(torch::Tensor a, torch::Tensor b, double scale);

/// scale · Σ |a − b|, otherwise as squared_error. The gradient is 0 where a == b, and where
/// either is NaN (the sum is NaN then), as torch.nn.functional.l1_loss has it.
torch::Tensor absolute_error(torch::Tensor a, torch::Tensor b, double scale);

}  // namespace veomni::ops
