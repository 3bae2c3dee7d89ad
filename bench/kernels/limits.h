// SPDX-License-Identifier: Apache-2.0
/// What this machine can do at most, measured: multiply-adds from registers to registers, and memory.
#pragma once

#include <cstdint>
#include <string>

namespace veomni::bench {

enum class Number { kFloat32, kBFloat16 };

struct Rate {
  double per_second;    ///< floating-point operations or bytes
  std::string made_by;  ///< the instruction
};

/// Floating-point operations a second of `threads` threads in a loop that touches no memory: of bfloat16 with its own instruction
/// where the processor has one, else float32's (what bfloat16 is then computed in).
Rate peak_flops(Number number, int threads);

/// Bytes a second of `threads` threads in a[i] = b[i] + s · c[i] over arrays far larger than the caches: two read, one written,
/// what is read to be overwritten not counted (STREAM's triad).
Rate triad_bytes(int threads);

}  // namespace veomni::bench
