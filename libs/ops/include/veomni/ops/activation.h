// SPDX-License-Identifier: Apache-2.0
/// Element-wise activations, computed in max(float32, dtype) and rounded once.
#pragma once

#include <torch/types.h>

namespace veomni::ops {

/// silu(gate) * up, with gate the first and up the last I columns.
///
/// Shapes:
///   gate_up  [..., 2I]
///   returns  [..., I]  same dtype
torch::Tensor swiglu(torch::Tensor gate_up_T2I);

/// x · Φ(x) by erf, or by the tanh approximation (Hugging Face's "gelu" and "gelu_pytorch_tanh").
/// Any shape.
torch::Tensor gelu(torch::Tensor x, bool tanh_approximation);

/// x · sigmoid(1.702 x) (Hugging Face's "quick_gelu"). Any shape.
torch::Tensor quick_gelu(torch::Tensor x);

/// x · sigmoid(x). Any shape.
torch::Tensor silu(torch::Tensor x);

}  // namespace veomni::ops
