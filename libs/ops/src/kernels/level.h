// SPDX-License-Identifier: Apache-2.0
/// Which instruction set the CPU kernels use, found once at run time.
#pragma once

#include <vector>

namespace veomni::ops::kernels {

enum class Level { kPortable, kAvx2, kAvx512, kAvx512Bf16, kAmx };

/// The levels this processor can run, lowest first.
const std::vector<Level>& available_levels();

/// Whether the processor is AMD's, where MKL's float32 products run at half speed.
bool is_amd();

/// The level in use: the highest available one unless a test forced another.
Level level();

/// Makes every kernel use `level` until the scope ends; for tests. Not while kernels run.
class ForceLevel {
 public:
  explicit ForceLevel(Level level);
  ~ForceLevel();
  ForceLevel(const ForceLevel&) = delete;
  ForceLevel& operator=(const ForceLevel&) = delete;

 private:
  Level before_;
};

}  // namespace veomni::ops::kernels
