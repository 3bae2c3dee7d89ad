// SPDX-License-Identifier: Apache-2.0
/// The one place that chooses who computes a matrix product. Operands are contiguous; results exist
/// before the call.
#pragma once

#include "launch.h"
#include "veomni/ops/packed_weight.h"

namespace veomni::ops {

/// out [M,N] = a [M,K] · b [N,K]ᵀ (+ bias [N] + residual [M,N], where defined), in the dtype of all. `packed`: b's layouts
/// between products, or null.
void matmul_nt(const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& bias = {},
               const Tensor& residual = {}, const PackedWeightPtr& packed = {});

/// out [M,N] = a [M,K] · b [K,N], in the dtype of all three.
void matmul_nn(const Tensor& out, const Tensor& a, const Tensor& b,
               const PackedWeightPtr& packed = {});

/// out [N,K] (+)= a [M,N]ᵀ · b [M,K], out in acc_dtype, accumulated in it over all M.
void matmul_tn(const Tensor& out, const Tensor& a, const Tensor& b, bool accumulate);

/// The same for groups of rows, each with a matrix of its own: group e is rows offsets[e] to offsets[e + 1] of M. `offsets` is
/// int64 [E + 1] on the CPU, whatever the device of the others.

/// out [M,N] = a [M,K] · b[e] [N,K]ᵀ.
void grouped_matmul_nt(const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& offsets);

/// out [M,N] = a [M,K] · b[e] [K,N].
void grouped_matmul_nn(const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& offsets);

/// out[e] [N,K] = a [M,N]ᵀ · b [M,K] over the rows of group e, zeros if it has none; out in acc_dtype.
void grouped_matmul_tn(const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& offsets);

}  // namespace veomni::ops
