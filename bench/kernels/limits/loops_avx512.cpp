// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "limits.h"

namespace veomni::bench {

double loop_avx512(int64_t turns) {
  // As many sums as hide the latency of an instruction (at most 2 x 6 in flight), and still fit the registers.
  constexpr int kSums = 24;
  __m512 sum[kSums];
  for (auto& s : sum) s = _mm512_set1_ps(1.0F);
  __m512 a = _mm512_set1_ps(0.999F), b = _mm512_set1_ps(1e-9F);
  for (int64_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) {
      sum[i] = _mm512_fmadd_ps(a, b, sum[i]);
      asm volatile("" : "+v"(sum[i]));  // neither removed nor merged with the next turn's
    }
  }
  return static_cast<double>(turns) * kSums * 2 * 16;
}

}  // namespace veomni::bench
