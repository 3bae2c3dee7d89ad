// SPDX-License-Identifier: Apache-2.0
/// Hugging Face's rotation, in plain ATen.
#pragma once

#include <ATen/ATen.h>

#include "veomni/ops/rope.h"

namespace veomni::ops::testing {

/// x [T, H, K], in the dtype of x and table.
inline at::Tensor rotate_half(const at::Tensor& x, const RopeTable& table) {
  const int64_t rotated = 2 * table.cos_TR.size(1);
  const at::Tensor cos = at::cat({table.cos_TR, table.cos_TR}, -1).unsqueeze(1);
  const at::Tensor sin = at::cat({table.sin_TR, table.sin_TR}, -1).unsqueeze(1);
  const at::Tensor head = x.slice(-1, 0, rotated), rest = x.slice(-1, rotated);
  const auto halves = head.chunk(2, -1);
  const at::Tensor turned = at::cat({-halves[1], halves[0]}, -1);
  return at::cat({head * cos + turned * sin, rest}, -1);
}

/// The table's numbers in float64.
inline RopeTable widened(const RopeTable& table) {
  return {table.cos_TR.to(at::kDouble), table.sin_TR.to(at::kDouble)};
}

}  // namespace veomni::ops::testing
