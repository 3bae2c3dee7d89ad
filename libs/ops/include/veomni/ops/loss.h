// SPDX-License-Identifier: Apache-2.0
/// The head and its loss in one: logits exist for a chunk of tokens at a time, [T, V] never does.
#pragma once

#include <torch/types.h>

#include "veomni/ops/packed_weight.h"

namespace veomni::ops {

/// The label that counts no loss.
inline constexpr int64_t kIgnoreLabel = -100;

struct WeightedLoss {
  torch::Tensor total;    ///< 0-d, max(float32, dtype)
  torch::Tensor token_T;  ///< like linear_cross_entropy_per_token's
};

/// total = Σ_t weights[t] · −log softmax(x[t] · weightᵀ + bias)[labels[t]] over the labels that are not kIgnoreLabel;
/// token_T is the same unweighted, token by token.
///
/// Shapes:
///   x        [T, D]  float32, float64 or bfloat16
///   weight   [V, D]  dtype of x
///   labels   [T]     int64 or int32, on the CPU (on meta: CPU or meta, all counted)
///   weights  [T]     floating; what stands at a label that is not counted is not read
///   bias     [V]     dtype of x, or undefined
/// `packed`: the weight's layouts between products (packed_weight.h), or null.
///
/// Logits are rounded to the dtype of x; the softmax is computed in max(float32, dtype). Tokens
/// without a label are left out of the products. Gradients are made in the forward pass, when one
/// is needed: of x in its dtype, of weight and bias in max(float32, dtype); backward hands them over,
/// multiplied by the incoming scalar unless that is exactly 1 (as it is assumed to be on meta), and
/// can run once. Workspace: chunk_tokens · (V + 2D) elements, whatever the labels. No counted label
/// (or T == 0): an exact 0 that keeps the graph, with zero gradients.
/// @param chunk_tokens  tokens per chunk; 0: 1024, fewer for a large vocabulary
/// @throws veomni::Error naming a label outside [0, V).
WeightedLoss linear_cross_entropy(torch::Tensor x_TD, torch::Tensor weight_VD,
                                  torch::Tensor labels_T, torch::Tensor weights_T,
                                  int64_t chunk_tokens = 0, torch::Tensor bias_V = {},
                                  PackedWeightPtr packed = {});

/// The unscaled loss of every token, 0 where the label is kIgnoreLabel: [T] in max(float32, dtype),
/// without gradient.
torch::Tensor linear_cross_entropy_per_token(torch::Tensor x_TD, torch::Tensor weight_VD,
                                             torch::Tensor labels_T, PackedWeightPtr packed = {});

}  // namespace veomni::ops
