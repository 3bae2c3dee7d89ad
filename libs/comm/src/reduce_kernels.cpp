// SPDX-License-Identifier: Apache-2.0
#include "reduce_kernels.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace veomni::kernels {

namespace {

// The bodies are inlined into one function per instruction set: each is vectorised for it. No fused
// operation is in any of them, so all give the same bits (tests/reduce_test.cpp).
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

VEOMNI_INLINE uint16_t round_one(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return static_cast<uint16_t>(is_nan ? 0x7fc0u : rounded);
}

VEOMNI_INLINE void round_body(uint16_t* out, const float* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = round_one(in[i]);
}

VEOMNI_INLINE void sum_two_body(uint16_t* out, const uint16_t* a, const uint16_t* b, int64_t n) {
#pragma GCC ivdep  // `out` may be `a` or `b`: place by place
  for (int64_t i = 0; i < n; ++i) out[i] = round_one(widen(a[i]) + widen(b[i]));
}

#if defined(__x86_64__)
#define VEOMNI_NATIVE_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

/// The sums of 16 elements.
VEOMNI_NATIVE_BF16 inline __m512 sum_16(const uint16_t* a, const uint16_t* b) {
  __m256i bits[2];
  std::memcpy(&bits[0], a, 32);
  std::memcpy(&bits[1], b, 32);
  __m512 wide[2];
  for (int k = 0; k < 2; ++k) {
    const __m512i words = _mm512_maskz_cvtepu16_epi32(0xffff, bits[k]);
    wide[k] = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, words, 16));
  }
  return _mm512_add_ps(wide[0], wide[1]);
}

/// The same with the instruction that rounds 32 sums. It differs for subnormal sums, which it takes for
/// zero, and for NaNs: 32 elements with one of these are rounded as elsewhere.
VEOMNI_NATIVE_BF16 void sum_two_native(uint16_t* out, const uint16_t* a, const uint16_t* b,
                                       int64_t n) {
  constexpr int kNanOrSubnormal = 0x01 | 0x20 | 0x80;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m512 low = sum_16(a + i, b + i), high = sum_16(a + i + 16, b + i + 16);
    if (_mm512_fpclass_ps_mask(low, kNanOrSubnormal) |
        _mm512_fpclass_ps_mask(high, kNanOrSubnormal)) {
      sum_two_body(out + i, a + i, b + i, 32);
    } else {
      const __m512bh rounded = _mm512_cvtne2ps_pbh(high, low);
      std::memcpy(out + i, &rounded, sizeof rounded);
    }
  }
  sum_two_body(out + i, a + i, b + i, n - i);
}

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
  }                                                                                             \
  __attribute__((target(features))) void sum_two_##level(uint16_t* out, const uint16_t* a,      \
                                                         const uint16_t* b, int64_t n) {        \
    sum_two_body(out, a, b, n);                                                                 \
  }
VEOMNI_LEVEL(avx2, "avx2")
VEOMNI_LEVEL(avx512, "avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")

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

void sum_two_bfloat16(uint16_t* out, const uint16_t* a, const uint16_t* b, int64_t n) {
#if defined(__x86_64__)
  static const bool native = level() == 2 && __builtin_cpu_supports("avx512bf16");
  if (native) return sum_two_native(out, a, b, n);
  if (level() == 2) return sum_two_avx512(out, a, b, n);
  if (level() == 1) return sum_two_avx2(out, a, b, n);
#endif
  sum_two_body(out, a, b, n);
}

void round_to_bfloat16(uint16_t* out, const float* in, int64_t n) {
#if defined(__x86_64__)
  if (level() == 2) return round_avx512(out, in, n);
  if (level() == 1) return round_avx2(out, in, n);
#endif
  round_body(out, in, n);
}

}  // namespace veomni::kernels
