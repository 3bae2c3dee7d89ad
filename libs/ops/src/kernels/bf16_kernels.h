// SPDX-License-Identifier: Apache-2.0
/// The kernels that have a faster form with AVX512-BF16 or AMX, and when it applies.
#pragma once

#include "kernels/args.h"

namespace veomni::ops::kernels {

namespace avx512_bf16 {
void run(const MatMul& args);
void run(const GroupedMatMul& args);
void run(const PackMatrix& args);
void run(const Convolve& args);
void run(const ConvolveWeight& args);
void run(const CrossEntropy& args);
void run(const AttentionForward& args);
void run(const AttentionBackward& args);
// The same source, which rounds by one instruction there.
void run(const QkNormRopeForward& args);
void run(const QkNormRopeBackward& args);
}  // namespace avx512_bf16
namespace amx {
void run(const MatMul& args);
void run(const AttentionForward& args);
void run(const AttentionBackward& args);
void run(const GroupedMatMul& args);
void run(const PackMatrix& args);
}  // namespace amx

/// Of a kernel declared above.
template <typename Args> bool has_bf16_form(const Args& a) { return a.dtype == DType::kBFloat16; }
inline bool has_bf16_form(const Convolve& a) {
  return a.dtype == DType::kBFloat16 && a.shape.channels > 0;
}
/// Pairs of values need even widths; softcap is left to the generic kernel.
inline bool has_bf16_form(DType dtype, const AttentionShape& s) {
  return dtype == DType::kBFloat16 && s.k_width % 2 == 0 && s.v_width % 2 == 0 && s.softcap == 0;
}
inline bool has_bf16_form(const AttentionForward& a) { return has_bf16_form(a.dtype, a.shape); }
inline bool has_bf16_form(const AttentionBackward& a) { return has_bf16_form(a.dtype, a.shape); }

/// AMX looks for the highest score before scaling it.
template <typename Args> bool has_amx_form(const Args& a) {
  if constexpr (requires { a.shape.scale; }) {
    if (!(a.shape.scale > 0)) return false;
  }
  return has_bf16_form(a);
}

}  // namespace veomni::ops::kernels
