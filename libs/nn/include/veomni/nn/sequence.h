// SPDX-License-Identifier: Apache-2.0
/// The host facts of one packed row of samples.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace veomni::nn {

/// T tokens of one or many samples in one row, never padded. Immutable once made; captured by value in Unit bodies.
struct SequenceInfo {
  /// [N + 1] int32 on the host: sample i owns tokens [cu_seqlens[i], cu_seqlens[i+1]). From the loader, never inferred.
  std::vector<int32_t> cu_seqlens{0};
  /// [T] int64 (or [3, T] for M-RoPE), on the model's device; restarts at 0 per sample.
  torch::Tensor position_ids;

  int64_t num_tokens() const { return cu_seqlens.back(); }
};
using Sequence = std::shared_ptr<const SequenceInfo>;

/// One sample per entry of `lengths`, positions 0, 1, … in each.
Sequence make_sequence(const std::vector<int64_t>& lengths, torch::Device device = torch::kCPU);

}  // namespace veomni::nn
