// SPDX-License-Identifier: Apache-2.0
/// Losses as every part of a model returns them.
#pragma once

#include <torch/types.h>

namespace veomni::model {

/// A cross-entropy over tokens. The weights carry everything a token's loss is divided by and multiplied with (the
/// step's global count, the recipe's weight), so terms of ranks, micro-batches and modalities SUM.
struct TokenLoss {
  torch::Tensor total;  ///< 0-d, Σ weight · loss, in max(fp32, dtype)
  torch::Tensor
      token_T;  ///< the unweighted loss of every token, 0 where it has no label; without gradient
};

}  // namespace veomni::model
