// SPDX-License-Identifier: Apache-2.0
/// What a profile says of a kernel: its name, and how many multiplications and additions it does.
#pragma once

#include "kernels/kernel_list.h"

namespace veomni::ops {

#define VEOMNI_OPS_NAME_OF(Args) \
  constexpr const char* name_of(const kernels::Args&) { return #Args; }
VEOMNI_OPS_KERNELS(VEOMNI_OPS_NAME_OF)
#undef VEOMNI_OPS_NAME_OF

/// 2 for each multiplication with its addition that the result needs; 0 for kernels that memory bounds. What a kernel does
/// beside (masked halves of tiles, packing) does not count; what attention recomputes in backward does.
template <typename Args> double flops_of(const Args&) { return 0; }
double flops_of(const kernels::MatMul& args);
double flops_of(const kernels::GroupedMatMul& args);
double flops_of(const kernels::Convolve& args);
double flops_of(const kernels::ConvolveWeight& args);
double flops_of(const kernels::NearestCode& args);
double flops_of(const kernels::AttentionForward& args);
double flops_of(const kernels::AttentionBackward& args);

}  // namespace veomni::ops
