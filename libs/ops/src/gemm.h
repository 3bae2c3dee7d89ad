// SPDX-License-Identifier: Apache-2.0
/// The one place that chooses who computes a matrix product. Operands are contiguous; results exist
/// before the call.
#pragma once

#include "launch.h"

namespace veomni::ops {

/// out [M,N] = a [M,K] · b [N,K]ᵀ, in the dtype of all three.
void matmul_nt(const Tensor& out, const Tensor& a, const Tensor& b);

/// out [M,N] = a [M,K] · b [K,N], in the dtype of all three.
void matmul_nn(const Tensor& out, const Tensor& a, const Tensor& b);

/// out [N,K] (+)= a [M,N]ᵀ · b [M,K], out in acc_dtype, accumulated in it over all M.
void matmul_tn(const Tensor& out, const Tensor& a, const Tensor& b, bool accumulate);

}  // namespace veomni::ops
