// SPDX-License-Identifier: Apache-2.0
/// Where each token of a sample stands, for rotary embeddings.
#pragma once

#include <cstdint>

#include "veomni/data/sample.h"

namespace veomni::data {

/// M-RoPE (Wang et al., "Qwen2-VL", 2024, section 2.1): a text token at position s has (s, s, s); an item whose tokens lie
/// as a grid {t, h, w} begins at s, its token (i, j, k) has (s + i, s + j, s + k), and what follows goes on at
/// s + max(t, h, w). A clip {n, 1, 1} is n text positions.
/// @param axes_3T  the sample's part of three rows that are `row_stride` apart
void write_mrope_positions(const Sample& sample, int64_t* axes_3T, int64_t row_stride);

}  // namespace veomni::data
