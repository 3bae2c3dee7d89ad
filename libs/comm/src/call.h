// SPDX-License-Identifier: Apache-2.0
/// What one rank asks of a collective, and whether the ranks agree.
#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "veomni/comm/communicator.h"

namespace veomni {

enum class Operation : int32_t {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kBroadcast,
  kBarrier,
  kSplit
};

const char* name_of(Operation operation);
/// What a profile calls the wait for one: "wait all_gather".
const char* wait_name_of(Operation operation);

/// A call without its tensors: what ranks compare and messages show. Plain bytes, so that it can
/// lie in shared memory, travel, or wait in a ring without allocating.
struct Signature {
  static constexpr int kShown = 4, kMaxDim = 6;
  struct Shape {
    int8_t in_dtype, out_dtype;
    int8_t dim;  ///< -1: more than kMaxDim; sizes[0] is then the number of elements
    int64_t sizes[kMaxDim];
  };
  Operation operation;
  ReduceOp reduce;
  int32_t root;
  int32_t color;
  int32_t num_tensors;
  int64_t bytes;        ///< of all inputs
  uint64_t digest;      ///< of everything that must be equal on all ranks
  Shape shown[kShown];  ///< of the first tensors' inputs
};

struct Call {
  Operation operation;
  std::vector<torch::Tensor> outs, ins;
  ReduceOp reduce = ReduceOp::kSum;
  int root = 0;
  std::vector<int64_t> out_splits, in_splits;
  int color = 0;
};

Signature sign(const Call& call);

/// A rank's signature with the rows it sends to and expects of each rank (all_to_all only).
struct Offer {
  const Signature* signature = nullptr;
  c10::IntArrayRef in_splits, out_splits;
};

/// "all_gather bfloat16 [4096], float [64]"
std::string describe(const Offer& offer);
std::string describe(const Call& call);

/// What is wrong with one rank's call on its own in a group of `size`, or "".
std::string problem_of(const Call& call, int size, bool cpu_only = true);

/// Whether rank `b`'s call fits rank `a`'s.
bool agree(const Offer& a, int rank_a, const Offer& b, int rank_b);

/// "ranks disagree on call #3 of 'world': rank 0 called …, rank 1 called …"
std::string disagreement(const std::string& group, int64_t sequence, const Offer& a, int rank_a,
                         const Offer& b, int rank_b);

/// Bytes of one row (dim 0) of an all_to_all's tensor; also without rows.
int64_t row_bytes(const torch::Tensor& tensor);

/// memcpy that may be given one place twice, or nothing.
void copy_bytes(void* to, const void* from, int64_t bytes);

/// The address `offset` bytes into a tensor's elements.
char* bytes_at(const torch::Tensor& tensor, int64_t offset);

}  // namespace veomni
