// SPDX-License-Identifier: Apache-2.0
/// What one rank asks of a collective, whether the ranks agree, and the moving of bytes between
/// them.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "veomni/comm/communicator.h"

namespace veomni::local {

enum class Operation {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kBroadcast,
  kBarrier,
  kSplit
};

struct Call {
  Operation operation;
  std::vector<torch::Tensor> outs, ins;
  ReduceOp reduce = ReduceOp::kSum;
  int root = 0;
  std::vector<int64_t> out_splits, in_splits;
  int color = 0;
};

/// "all_gather bfloat16 [4096], float [64]"
std::string describe(const Call& call);

/// What is wrong with one rank's call on its own in a group of `size`, or "".
std::string problem_of(const Call& call, int size);

/// Whether rank `b`'s call fits rank `a`'s.
bool agree(const Call& a, int rank_a, const Call& b, int rank_b);

/// Writes what `rank` is responsible for; runs at the same time as the other ranks' parts, which
/// touch other bytes.
void execute(const std::vector<Call>& calls, int rank);

}  // namespace veomni::local
