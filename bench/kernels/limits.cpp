// SPDX-License-Identifier: Apache-2.0
#include "limits.h"

#include <omp.h>
#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <chrono>
#include <vector>

namespace veomni::bench {
namespace {

// Longer than a clock's tick and a thread's start, short enough to try often.
constexpr double kLoopSeconds = 0.02;
constexpr int kTries = 15;
constexpr int64_t kTriadElements = 16 << 20;  // 64 MiB an array

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// One loop: runs `turns` turns and returns the floating-point operations done.
using Loop = double (*)(int64_t turns);

#if defined(__x86_64__)
// Assembly, so that any compiler's flags give the same loop; it runs only where the processor has the instruction. As many
// sums as hide an instruction's latency (at most 2 x 6 are in flight) and fit the registers; all of them start at zero, so that
// no operand is denormal.
#define VEOMNI_EACH_OF_12(X) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define VEOMNI_EACH_OF_24(X)                                                                     \
  X(8)                                                                                           \
  X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) \
      X(25) X(26) X(27) X(28) X(29) X(30) X(31)
#define VEOMNI_CLEAR_YMM(i) "vxorps %%ymm" #i ", %%ymm" #i ", %%ymm" #i "\n"
#define VEOMNI_CLEAR_ZMM(i) "vpxord %%zmm" #i ", %%zmm" #i ", %%zmm" #i "\n"
#define VEOMNI_FMA_YMM(i) "vfmadd231ps %%ymm0, %%ymm1, %%ymm" #i "\n"
#define VEOMNI_FMA_ZMM(i) "vfmadd231ps %%zmm0, %%zmm1, %%zmm" #i "\n"
#define VEOMNI_DOT_ZMM(i) "vdpbf16ps %%zmm0, %%zmm1, %%zmm" #i "\n"
#define VEOMNI_NAME(i) "xmm" #i,

double loop_avx2(int64_t turns) {
  int64_t left = turns;
  asm volatile(
      "vxorps %%ymm0, %%ymm0, %%ymm0\nvxorps %%ymm1, %%ymm1, %%ymm1\n" VEOMNI_EACH_OF_12(
          VEOMNI_CLEAR_YMM) "1:\n" VEOMNI_EACH_OF_12(VEOMNI_FMA_YMM) "dec %0\njnz 1b\nvzeroupper"
      : "+r"(left)
      :
      : VEOMNI_EACH_OF_12(VEOMNI_NAME) "xmm0", "xmm1", "cc");
  return static_cast<double>(turns) * 12 * 2 * 8;
}

// Names of registers that a compiler without AVX-512 knows: it uses no others.
double loop_avx512(int64_t turns) {
  int64_t left = turns;
  asm volatile(VEOMNI_CLEAR_ZMM(0) VEOMNI_CLEAR_ZMM(1)
                   VEOMNI_EACH_OF_24(VEOMNI_CLEAR_ZMM) "1:\n" VEOMNI_EACH_OF_24(
                       VEOMNI_FMA_ZMM) "dec %0\njnz 1b\nvzeroupper"
               : "+r"(left)
               :
               : VEOMNI_EACH_OF_12(VEOMNI_NAME) "xmm0", "xmm1", "cc");
  return static_cast<double>(turns) * 24 * 2 * 16;
}

double loop_avx512_bf16(int64_t turns) {
  int64_t left = turns;
  asm volatile(VEOMNI_CLEAR_ZMM(0) VEOMNI_CLEAR_ZMM(1)
                   VEOMNI_EACH_OF_24(VEOMNI_CLEAR_ZMM) "1:\n" VEOMNI_EACH_OF_24(
                       VEOMNI_DOT_ZMM) "dec %0\njnz 1b\nvzeroupper"
               : "+r"(left)
               :
               : VEOMNI_EACH_OF_12(VEOMNI_NAME) "xmm0", "xmm1", "cc");
  return static_cast<double>(turns) * 24 * 2 * 32;
}

// Four sums of 16 x 16 by tiles that stay in registers: 16 x 16 x 32 multiply-adds an instruction.
double loop_amx(int64_t turns) {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } tiles;
  int64_t left = turns;
  asm volatile(
      "ldtilecfg %1\ntilezero %%tmm4\ntilezero %%tmm5\ntilezero %%tmm6\ntilezero %%tmm7\n"
      "1:\ntdpbf16ps %%tmm6, %%tmm4, %%tmm0\ntdpbf16ps %%tmm7, %%tmm4, %%tmm1\n"
      "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\ntdpbf16ps %%tmm7, %%tmm5, %%tmm3\n"
      "dec %0\njnz 1b\ntilerelease"
      : "+r"(left)
      : "m"(tiles)
      : "cc");
  return static_cast<double>(turns) * 4 * 2 * 16 * 16 * 32;
}

/// Linux gives a process the tiles only when asked.
bool has_amx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return __builtin_cpu_supports("amx-bf16") &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

double loop_portable(int64_t turns) {
  constexpr int kSums = 64;
  float sum[kSums], a = 0.999F, b = 1e-9F;
  std::fill(sum, sum + kSums, 1.0F);
  for (int64_t turn = 0; turn < turns; ++turn) {
    asm volatile("" : "+m"(a), "+m"(b));
    for (int i = 0; i < kSums; ++i) sum[i] += a * b;
    asm volatile("" : : "m"(sum));
  }
  return static_cast<double>(turns) * 2 * kSums;
}

struct NamedLoop {
  Loop loop;
  const char* name;
};

NamedLoop best_loop([[maybe_unused]] Number number) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f");
  if (number == Number::kBFloat16 && has_amx()) return {loop_amx, "tdpbf16ps"};
  if (number == Number::kBFloat16 && avx512 && __builtin_cpu_supports("avx512bf16"))
    return {loop_avx512_bf16, "vdpbf16ps, 512 bits"};
  if (avx512) return {loop_avx512, "vfmadd, 512 bits"};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {loop_avx2, "vfmadd, 256 bits"};
#endif
  return {loop_portable, "as compiled"};
}

}  // namespace

Rate peak_flops(Number number, int threads) {
  const auto [loop, name] = best_loop(number);
  int64_t turns = 1000;
  for (double taken = 0; taken < kLoopSeconds; turns *= 2) {
    const double begin = now();
    loop(turns);
    taken = now() - begin;
  }
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    double done = 0;
    const double begin = now();
#pragma omp parallel num_threads(threads) reduction(+ : done)
    done += loop(turns);
    best = std::max(best, done / (now() - begin));
  }
  return {best, name};
}

Rate triad_bytes(int threads) {
  std::vector<float> a(kTriadElements), b(kTriadElements, 1.0F), c(kTriadElements, 2.0F);
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    const double begin = now();
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t j = 0; j < kTriadElements; ++j) a[j] = b[j] + 3.0F * c[j];
    asm volatile("" : : "r"(a.data()) : "memory");
    best = std::max(best, 3.0 * sizeof(float) * kTriadElements / (now() - begin));
  }
  return {best, "a = b + s c"};
}

}  // namespace veomni::bench
