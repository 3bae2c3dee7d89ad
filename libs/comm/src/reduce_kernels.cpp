// SPDX-License-Identifier: Apache-2.0
#include "reduce_kernels.h"

#include <cstring>

namespace veomni::kernels {

namespace {

// The bodies are inlined into one function per instruction set: each is vectorised for it. No fused
// operation is in any of them, so all give the same bits.
#define VEOMNI_INLINE inline __attribute__((always_inline))

VEOMNI_INLINE float widen(float x) { return x; }
VEOMNI_INLINE float widen(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &wide, 4);
  return x;
}

template <typename In>
VEOMNI_INLINE void sum_body(float* out, const In* const* ins, int count, int64_t n) {
  if (count == 1) {
    for (int64_t i = 0; i < n; ++i) out[i] = widen(ins[0][i]);
    return;
  }
  const In *a = ins[0], *b = ins[1];
  for (int64_t i = 0; i < n; ++i) out[i] = widen(a[i]) + widen(b[i]);
  for (int r = 2; r < count; ++r) {
    const In* c = ins[r];
    for (int64_t i = 0; i < n; ++i) out[i] += widen(c[i]);
  }
}

VEOMNI_INLINE void round_body(uint16_t* out, const float* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, in + i, 4);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    out[i] = static_cast<uint16_t>(is_nan ? 0x7fc0u : rounded);
  }
}

#if defined(__x86_64__)
#define VEOMNI_LEVEL(level, features)                                                           \
  __attribute__((target(features))) void sum_float_##level(float* out, const float* const* ins, \
                                                           int count, int64_t n) {              \
    sum_body(out, ins, count, n);                                                               \
  }                                                                                             \
  __attribute__((target(features))) void sum_bfloat16_##level(                                  \
      float* out, const uint16_t* const* ins, int count, int64_t n) {                           \
    sum_body(out, ins, count, n);                                                               \
  }                                                                                             \
  __attribute__((target(features))) void round_##level(uint16_t* out, const float* in,          \
                                                       int64_t n) {                             \
    round_body(out, in, n);                                                                     \
  }
VEOMNI_LEVEL(avx2, "avx2")
VEOMNI_LEVEL(avx512, "avx512f,avx512bw,avx512vl,avx512dq")

/// 0 portable, 1 AVX2, 2 AVX-512.
int level() {
  static const int level = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
                               ? 2
                               : (__builtin_cpu_supports("avx2") ? 1 : 0);
  return level;
}
#endif

}  // namespace

void sum_float(float* out, const float* const* ins, int count, int64_t n) {
#if defined(__x86_64__)
  if (level() == 2) return sum_float_avx512(out, ins, count, n);
  if (level() == 1) return sum_float_avx2(out, ins, count, n);
#endif
  sum_body(out, ins, count, n);
}

void sum_bfloat16(float* out, const uint16_t* const* ins, int count, int64_t n) {
#if defined(__x86_64__)
  if (level() == 2) return sum_bfloat16_avx512(out, ins, count, n);
  if (level() == 1) return sum_bfloat16_avx2(out, ins, count, n);
#endif
  sum_body(out, ins, count, n);
}

void round_to_bfloat16(uint16_t* out, const float* in, int64_t n) {
#if defined(__x86_64__)
  if (level() == 2) return round_avx512(out, in, n);
  if (level() == 1) return round_avx2(out, in, n);
#endif
  round_body(out, in, n);
}

}  // namespace veomni::kernels
