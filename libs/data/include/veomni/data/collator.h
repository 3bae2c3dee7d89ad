// SPDX-License-Identifier: Apache-2.0
/// A micro-batch as the tensors a model takes.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "veomni/data/sample.h"

namespace veomni::data {

/// The media of a micro-batch that belong to one encoder or decoder.
struct MediaBatch {
  torch::Tensor features_PF;       ///< float, rows of all items one after another
  std::vector<media::Grid> grids;  ///< an item each
  torch::Tensor
      tokens_R;  ///< [R] int64, ascending: the rows of the packed sequence that stand for them
};

/// One packed row of T tokens, N samples after one another. All tensors are on the CPU.
struct Batch {
  torch::Tensor input_ids_T;  ///< int64
  torch::Tensor labels_T;  ///< int64, shifted: the target of position t, -100 where there is none
  torch::Tensor position_ids_T;               ///< int64, from 0 in every sample; [3, T] for M-RoPE
  std::map<std::string, MediaBatch> inputs;   ///< by modality; a modality without items is left out
  std::map<std::string, MediaBatch> targets;  ///< likewise
  std::vector<int32_t> cu_seqlens;            ///< N + 1 entries, 0 first, T last
  int32_t max_seqlen = 0;
  int64_t num_loss_tokens = 0;                  ///< labels that are not -100
  std::vector<uint64_t> sample_ids;             ///< N
  std::vector<int32_t> source_of_sample;        ///< N
  std::vector<int64_t> target_bytes_of_sample;  ///< N, Sample::target_bytes

  int64_t num_tokens() const { return cu_seqlens.back(); }
};

/// The last token of a sample has no target. An empty micro-batch is legal: T = 0, cu_seqlens = {0}.
/// @param position_axes  1, or 3 for M-RoPE (time, height, width): the ids of transformers' Qwen2-VL, where text counts
///                       up on all axes, a picture's tokens take the rows and columns of Features::token_grid and the
///                       text behind goes on after the largest; a clip's tokens count like text
/// @throws Error naming the sample if its media's tokens overlap, reach beyond it or do not lie as their grid says, or
///         if features of one modality have several widths
Batch collate(const MicroBatch& micro_batch, int position_axes = 1);

}  // namespace veomni::data
