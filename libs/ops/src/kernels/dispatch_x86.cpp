// SPDX-License-Identifier: Apache-2.0
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/bf16_kernels.h"
#include "kernels/kernel_list.h"
#include "kernels/level.h"

namespace veomni::ops::kernels {
namespace {

/// Linux gives a process the tiles' 8 KiB of state only when asked (arch/x86/include/uapi/asm/prctl.h).
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::vector<Level> find_levels() {
  __builtin_cpu_init();
  std::vector<Level> levels = {Level::kPortable};
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return levels;
  levels.push_back(Level::kAvx2);
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!avx512) return levels;
  levels.push_back(Level::kAvx512);
  if (!__builtin_cpu_supports("avx512bf16")) return levels;
  levels.push_back(Level::kAvx512Bf16);
  if (__builtin_cpu_supports("amx-bf16") && may_use_tiles()) levels.push_back(Level::kAmx);
  return levels;
}

Level& current_level() {
  static Level level = available_levels().back();
  return level;
}

template <typename Args> void run_at_level(const Args& args) {
  const Level level = current_level();
  if constexpr (requires { amx::run(args); }) {
    if (level == Level::kAmx && has_amx_form(args)) return amx::run(args);
  }
  switch (level) {
    case Level::kPortable: return portable::run(args);
    case Level::kAvx2: return avx2::run(args);
    case Level::kAvx512: return avx512::run(args);
    case Level::kAvx512Bf16:
    case Level::kAmx:
      if constexpr (requires { avx512_bf16::run(args); }) {
        if (has_bf16_form(args)) return avx512_bf16::run(args);
      }
      return avx512::run(args);
  }
}

}  // namespace

const std::vector<Level>& available_levels() {
  static const std::vector<Level> levels = find_levels();
  return levels;
}

bool is_amd() {
  __builtin_cpu_init();
  return __builtin_cpu_is("amd");
}

Level level() { return current_level(); }

ForceLevel::ForceLevel(Level level) : before_(current_level()) { current_level() = level; }
ForceLevel::~ForceLevel() { current_level() = before_; }

#define VEOMNI_OPS_DEFINE_RUN(Args) \
  void run(const Args& args) { run_at_level(args); }
VEOMNI_OPS_KERNELS(VEOMNI_OPS_DEFINE_RUN)

}  // namespace veomni::ops::kernels
