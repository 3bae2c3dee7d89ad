// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "limits.h"

namespace veomni::bench {

double loop_avx512_bf16(int64_t turns) {
  // As many sums as hide the latency of an instruction (at most 2 x 6 in flight), and still fit the registers.
  constexpr int kSums = 24;
  __m512 sum[kSums];
  for (auto& s : sum) s = _mm512_set1_ps(1.0F);
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5F), _mm512_set1_ps(0.5F)), b = a;
  for (int64_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) {
      sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
      asm volatile("" : "+v"(sum[i]));  // neither removed nor merged with the next turn's
    }
  }
  return static_cast<double>(turns) * kSums * 2 * 32;
}

}  // namespace veomni::bench
