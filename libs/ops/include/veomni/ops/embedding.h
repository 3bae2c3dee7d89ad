// SPDX-License-Identifier: Apache-2.0
/// Table look-up.
#pragma once

#include <torch/types.h>

namespace veomni::ops {

/// out[t] = weight[ids[t]].
///
/// Shapes:
///   ids      [T]     int64 or int32, on the CPU (on meta: CPU or meta)
///   weight   [V, D]  float32, float64 or bfloat16
///   returns  [T, D]  dtype and device of weight
///
/// Gradient of weight: dense [V, D] in max(float32, dtype), summed in token order, hence
/// deterministic. T == 0 is legal and gives a zero gradient.
/// @throws veomni::Error naming the id and its position when an id lies outside [0, V).
torch::Tensor embedding(torch::Tensor ids_T, torch::Tensor weight_VD);

}  // namespace veomni::ops
