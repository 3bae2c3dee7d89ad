// SPDX-License-Identifier: Apache-2.0
/// From one projection to what attention reads: the norms of the heads and rotary embedding, in one pass over memory.
#pragma once

#include <torch/types.h>

#include "veomni/ops/rope.h"

namespace veomni::ops {

// T tokens  H query heads  G kv heads  K head dim  R rotated pairs

/// RMSNorm of every head of q and of k; a weight that is undefined: none.
struct HeadNorms {
  torch::Tensor q_weight_K, k_weight_K;
  double eps = 1e-6;
};

struct QkvHeads {
  torch::Tensor q_THK, k_TGK, v_TGK;
};

/// q = rope(rms_norm(q's part of qkv)), k likewise, v as it is; rounded where the two ops, called in turn, would round.
///
/// Shapes:
///   qkv      [T, (H + 2G) K]  float32, float64 or bfloat16: the heads of q, then of k, then of v
///   table    [T, R]           made for qkv's dtype, 2R <= K; dimensions of a head from 2R on are not turned
///   norms    [K]              dtype and device of qkv
///   returns  [T, H, K], [T, G, K], [T, G, K], like qkv, each contiguous
///
/// Gradients: of qkv; of the norms' weights in max(float32, dtype). Between rotation and norm they are not rounded. Of the
/// three results any may be left unused. For backward are kept qkv and one number a normed head; without norms the table alone.
/// No tokens is legal.
///
/// @throws Error if H + 2G does not divide the width of qkv, or table or norms do not fit it
QkvHeads qk_norm_rope(torch::Tensor qkv, int64_t heads, int64_t kv_heads, const RopeTable& table,
                      const HeadNorms& norms = {});

}  // namespace veomni::ops
