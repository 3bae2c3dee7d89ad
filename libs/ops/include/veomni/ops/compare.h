// SPDX-License-Identifier: Apache-2.0
/// The one measure of how far two tensors are apart; tests, `forward` and the documents all use it.
#pragma once

#include <torch/types.h>

namespace veomni::ops {

/// |a − b|₂ / max(|b|₂, 1e-3 · √(n / N) · |g|₂), computed in float64, with b the reference, n its
/// element count.
///
/// @param all_norm   |g|₂, the norm of all reference gradients together; 0: no floor
/// @param all_numel  N, their element count
/// @returns 0 for two empty tensors; infinity for a NaN anywhere, and where the reference is an
/// exact zero and `a` is not
/// @throws veomni::Error for undefined tensors or different shapes.
double relative_error(torch::Tensor a, torch::Tensor b, double all_norm = 0, int64_t all_numel = 0);

/// Σ x² over all elements, accumulated in float64 in an order that does not depend on the number of threads; NaN or infinity
/// if x holds one. Waits for the device.
///
/// @param x  float32, float64 or bfloat16; strided inputs are copied; not on meta
double sum_of_squares(torch::Tensor x);

}  // namespace veomni::ops
