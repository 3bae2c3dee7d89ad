// SPDX-License-Identifier: Apache-2.0
/// Rotary position embedding (Su et al., arXiv 2104.09864) in Hugging Face's "rotate half" layout.
#pragma once

#include <torch/types.h>

#include <vector>

namespace veomni::ops {

/// Cosines and sines of every token's angles, R = half of the rotated dimensions.
struct RopeTable {
  torch::Tensor cos_TR;
  torch::Tensor sin_TR;
};

/// inv_freq[i] = theta^(−2i / rotary_dim), i < rotary_dim / 2, computed in float32 by ATen's pow,
/// since that rounding is part of what Hugging Face models were trained with: at position 1000 one
/// ulp turns an angle by 1e-4.
std::vector<double> default_inv_freq(double theta, int64_t rotary_dim);

/// Angles position * inv_freq, rounded in max(float32, compute_dtype); cos and sin times
/// attention_scaling.
///
/// Shapes:
///   position_ids  [T]  int64 or int32, on the CPU or meta; the table is made on its device
///   returns       two tensors [T, R] of max(float32, compute_dtype), R = inv_freq.size(), without
///                 gradient
RopeTable rope_table(torch::Tensor position_ids_T, const std::vector<double>& inv_freq,
                     torch::ScalarType compute_dtype, double attention_scaling = 1.0);

/// The same where every frequency has its own axis of positions (M-RoPE: time, height, width; pictures: row, column):
/// frequency j turns by position_ids[axis_of_freq[j]].
///
/// Shapes:
///   position_ids  [A, T]
///   axis_of_freq  R entries in [0, A)
RopeTable rope_table(torch::Tensor position_ids_AT, const std::vector<double>& inv_freq,
                     const std::vector<int32_t>& axis_of_freq, torch::ScalarType compute_dtype,
                     double attention_scaling = 1.0);

/// Rotates dimension i with dimension i + R of every head, i < R; dimensions from 2R on pass
/// through.
///
/// Shapes:
///   x        [T, H, K]  2R <= K; strided inputs are copied
///   returns  like x, computed in the table's precision
///
/// Gradient: the inverse rotation.
torch::Tensor rope(torch::Tensor x_THK, const RopeTable& table);

}  // namespace veomni::ops
