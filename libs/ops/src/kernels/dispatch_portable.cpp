// SPDX-License-Identifier: Apache-2.0
// Linked instead of dispatch_x86.cpp on other processors: one level, the compiler's default
// instructions.
#include "kernels/kernel_list.h"
#include "kernels/level.h"

namespace veomni::ops::kernels {

const std::vector<Level>& available_levels() {
  static const std::vector<Level> levels = {Level::kPortable};
  return levels;
}

bool is_amd() { return false; }

Level level() { return Level::kPortable; }

ForceLevel::ForceLevel(Level) : before_(Level::kPortable) {}
ForceLevel::~ForceLevel() = default;

#define VEOMNI_OPS_DEFINE_RUN(Args) \
  void run(const Args& args) { portable::run(args); }
VEOMNI_OPS_KERNELS(VEOMNI_OPS_DEFINE_RUN)

}  // namespace veomni::ops::kernels
