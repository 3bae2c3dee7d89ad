// SPDX-License-Identifier: Apache-2.0
/// Sums that run at the speed of memory: fp32 and bf16. No torch here.
#pragma once

#include <cstdint>

namespace veomni::kernels {

/// out[i] = ins[0][i] + ins[1][i] + …, in that order; count >= 1. `out` may be ins[r] for the
/// whole of it, if count is 1 or 2.
void sum_float(float* out, const float* const* ins, int count, int64_t n);

/// The same of bf16 (its bits), summed in fp32. `out` overlaps nothing.
void sum_bfloat16(float* out, const uint16_t* const* ins, int count, int64_t n);

/// out[i] = a[i] + b[i] in fp32, rounded as below. `out` may be `a` or `b`.
void sum_two_bfloat16(uint16_t* out, const uint16_t* a, const uint16_t* b, int64_t n);

/// Rounds to nearest, ties to even; a NaN becomes 0x7fc0.
void round_to_bfloat16(uint16_t* out, const float* in, int64_t n);

}  // namespace veomni::kernels
