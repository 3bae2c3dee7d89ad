// SPDX-License-Identifier: Apache-2.0
/// Softmax attention over packed sequences of any lengths, never holding a T x T matrix.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace veomni::ops {

/// What a query may see. Positions are aligned at the end: query j of n_q stands at key j + n_k −
/// n_q, so that new tokens against a longer cache see the whole of it.
struct AttentionSpec {
  double scale;               ///< scores = scale · q·k
  bool causal = true;         ///< keys up to its own position
  int64_t window_left = -1;   ///< keys from position − window_left on; −1: all
  int64_t window_right = -1;  ///< keys up to position + window_right; −1: all; causal wins
  double softcap = 0;         ///< scores become softcap · tanh(scores / softcap); 0: off
  torch::Tensor sinks_H;      ///< one logit a head that joins every softmax; undefined: none
};

/// lse [H, T] = log Σ exp(scores) (a sink included) in max(float32, dtype), −inf where a query sees
/// nothing. It carries no gradient: ring attention merges partial results with it by its own rule.
struct AttentionResult {
  torch::Tensor out_THK;
  torch::Tensor lse_HT;
};

/// Segment i's queries attend to segment i's keys. Query head h reads kv head h / (H / G); keys are
/// never repeated.
///
/// Shapes:
///   q            [T, H, K]   float32, float64 or bfloat16
///   k            [U, G, K]   G divides H
///   v            [U, G, Kv]  Kv may differ from K
///   cu_q, cu_k   host offsets 0 = c0 <= c1 <= ... = T (U), equally many; empty segments are legal
///   out          [T, H, Kv]  dtype of q; zero rows where a query sees nothing
///
/// Softmax and all accumulation in max(float32, dtype). Gradients in the dtype of q, k, v; of sinks
/// in max(float32, dtype). Deterministic for a given thread count. Strided inputs are copied.
/// @throws veomni::Error for offsets or shapes that do not fit.
AttentionResult varlen_attention(torch::Tensor q_THK, torch::Tensor k_UGK, torch::Tensor v_UGK,
                                 const std::vector<int32_t>& cu_q, const std::vector<int32_t>& cu_k,
                                 const AttentionSpec& spec);

}  // namespace veomni::ops
