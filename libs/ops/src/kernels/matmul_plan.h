// SPDX-License-Identifier: Apache-2.0
/// How a product is cut into blocks: the same on every level, so that workspaces do not depend on
/// the processor.
#pragma once

#include <cstdint>

namespace veomni::ops::kernels {

/// Register tiles are divisors of these on every level.
inline constexpr int64_t kRowMultiple = 12;
inline constexpr int64_t kColumnMultiple = 32;

/// A block of a is [rows, depth], of b [columns, depth]; both and the sums [rows, columns] stay in
/// a core's L2 cache (about 750 KiB in float32). One task computes one [rows, columns] block of the
/// result over the whole depth.
struct MatMulPlan {
  int64_t rows, columns, depth;
  int64_t row_blocks, column_blocks;
  int64_t threads;  ///< that get a workspace

  int64_t tasks() const { return row_blocks * column_blocks; }
  int64_t workspace_per_thread() const { return (rows + columns) * depth + rows * columns; }
};
MatMulPlan plan_matmul(int64_t m, int64_t n, int64_t k, int threads);

}  // namespace veomni::ops::kernels
