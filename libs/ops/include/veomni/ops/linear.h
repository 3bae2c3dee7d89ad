// SPDX-License-Identifier: Apache-2.0
/// Matrix products with a weight.
#pragma once

#include <torch/types.h>

#include <string>

#include "veomni/ops/packed_weight.h"

namespace veomni::ops {

/// y = x · weightᵀ + bias + residual, rounded once where own kernels multiply.
///
/// Shapes:
///   x        [..., D]  float32, float64 or bfloat16; strided inputs are copied
///   weight   [N, D]    dtype and device of x
///   bias     [N]       or undefined
///   residual [..., N]  what the result is added to, or undefined; strided inputs are copied
///   returns  [..., N]  dtype of x
/// `packed`: the weight's layouts between products (packed_weight.h), or null.
///
/// Gradients: of x in its dtype; of residual y's own; of weight and bias in max(float32, dtype), accumulated in that
/// precision over all rows (a bf16 parameter needs `set_grad_dtype(torch::kFloat)` to receive it
/// unrounded). Frozen inputs cost nothing. No rows is legal: y is [..., 0 rows, N] and the
/// gradients of weight and bias are zeros.
/// @throws veomni::Error for shapes, dtypes or devices that do not fit.
torch::Tensor linear(torch::Tensor x, torch::Tensor weight_ND, torch::Tensor bias_N = {},
                     torch::Tensor residual = {}, PackedWeightPtr packed = {});

/// The logits of a language-model head: linear() without a bias, under the name models use.
torch::Tensor linear_logits(torch::Tensor x_TD, torch::Tensor weight_VD);

/// Which matrix kernels every product of this library uses on the CPU.
enum class LinearBackend {
  kAuto,  ///< by the processor: own kernels for float32 on AMD from AVX2 on; for bfloat16 on AMD with AVX512-BF16,
          ///< with AMX, and with AVX2 alone; else as kBlas
  kOneDnn,  ///< float32 through oneDNN
  kBlas,    ///< what ATen's mm chooses: MKL for float32 and float64, oneDNN for bfloat16
  kOwn,     ///< this library's kernels for every dtype
};

/// Sets the backend for the process ("auto", "onednn", "blas", "own": the recipe's `ops.linear`).
/// Not to be called while operations run. @throws veomni::ConfigError for another name.
void set_linear_backend(const std::string& name);
void set_linear_backend(LinearBackend backend);
LinearBackend linear_backend();

}  // namespace veomni::ops
