// SPDX-License-Identifier: Apache-2.0
/// What every op that rotates asks of its table.
#pragma once

#include "launch.h"
#include "veomni/ops/rope.h"

namespace veomni::ops {

/// @throws Error unless the table is made for x's dtype and device, and for `tokens` heads of `width`
void check_table(const char* op, const Tensor& x, int64_t tokens, int64_t width,
                 const RopeTable& table);

}  // namespace veomni::ops
