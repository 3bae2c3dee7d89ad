// SPDX-License-Identifier: Apache-2.0
#include "limits.h"

#include <omp.h>

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
  if (number == Number::kBFloat16 && avx512 && __builtin_cpu_supports("avx512bf16"))
    return {loop_avx512_bf16, "vdpbf16ps, 512 bits"};
  if (avx512) return {loop_avx512, "vfmadd, 512 bits"};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {loop_avx2, "vfmadd, 256 bits"};
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
