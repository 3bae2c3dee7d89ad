// SPDX-License-Identifier: Apache-2.0
/// Sums over rows in blocks whose number no thread count changes (kReductionBlocks).
#pragma once

#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// Rows of reduction block b out of `blocks`.
inline int64_t block_begin(int64_t b, int64_t blocks, int64_t rows) { return b * rows / blocks; }

/// out[c] = Σ_b partial[b, c]
template <typename A>
void sum_blocks(const A* partial, int64_t blocks, int64_t stride, int64_t width, A* out) {
  for (int64_t c = 0; c < width; ++c) out[c] = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t c = 0; c < width; ++c) out[c] += partial[b * stride + c];
  }
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
