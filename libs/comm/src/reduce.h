// SPDX-License-Identifier: Apache-2.0
/// Element-wise reduction of several buffers in a fixed order.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "veomni/comm/communicator.h"

namespace veomni {

/// Whether `in` can be reduced into `out`: in's dtype is float64/32/16, bfloat16, int64/32 or
/// uint8, and out's is the same or accumulate_dtype(in).
bool can_reduce(torch::ScalarType in, torch::ScalarType out);

/// out[i] = `op` over ins[0][i], ins[1][i], …, accumulated in accumulate_dtype. `out` may be one of
/// `ins`. Requires can_reduce.
void reduce_buffers(void* out, torch::ScalarType out_dtype, const std::vector<const void*>& ins,
                    torch::ScalarType in_dtype, int64_t numel, ReduceOp op);

}  // namespace veomni
