// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/collator.h"

#include <torch/types.h>

#include <algorithm>

#include "position_ids.h"
#include "veomni/base/error.h"

namespace veomni::data {

namespace {
constexpr int64_t kNoTarget = -100;

// An item and where its sample begins in the packed row.
struct PlacedItem {
  const MediaItem* item;
  int64_t sample_begin;
};

// What the sample promises of its media; a model would read other rows than those that stand for them.
void check_media(const Sample& sample) {
  int64_t done = 0;
  for (const MediaItem& item : sample.media) {
    const int64_t tokens = item.features->tokens;
    const media::Grid& grid = item.features->token_grid;
    VEOMNI_CHECK(item.begin >= done && item.begin + tokens <= sample.size(), "sample ", sample.id,
                 ": ", item.modality, " of ", tokens, " tokens at token ", item.begin,
                 " overlaps what stands before it (up to ", done, ") or the end at ",
                 sample.size());
    VEOMNI_CHECK(grid[0] * grid[1] * grid[2] == tokens, "sample ", sample.id, ": ", item.modality,
                 " has ", tokens, " tokens that lie as ", grid[0], "x", grid[1], "x", grid[2]);
    done = item.begin + tokens;
  }
}

MediaBatch gather(const std::string& modality, const std::vector<PlacedItem>& items) {
  int64_t rows = 0, tokens = 0;
  const int64_t width = items.front().item->features->width;
  for (const PlacedItem& placed : items) {
    const media::Features& features = *placed.item->features;
    VEOMNI_CHECK(features.width == width, "features of '", modality, "' are ", width, " and ",
                 features.width, " wide in one micro-batch");
    rows += features.rows;
    tokens += features.tokens;
  }
  MediaBatch batch;
  batch.features_PF = torch::empty({rows, width}, torch::kFloat32);
  batch.tokens_R = torch::empty({tokens}, torch::kInt64);
  float* values = batch.features_PF.data_ptr<float>();
  int64_t* token = batch.tokens_R.data_ptr<int64_t>();
  for (const PlacedItem& placed : items) {
    const media::Features& features = *placed.item->features;
    values = std::copy(features.values.begin(), features.values.end(), values);
    for (int64_t i = 0; i < features.tokens; ++i)
      *token++ = placed.sample_begin + placed.item->begin + i;
    batch.grids.push_back(features.grid);
  }
  return batch;
}

std::map<std::string, MediaBatch> gather_media(const MicroBatch& micro_batch, bool target) {
  std::map<std::string, std::vector<PlacedItem>> items;
  int64_t begin = 0;
  for (const Sample& sample : micro_batch.samples) {
    for (const MediaItem& item : sample.media) {
      if (item.target == target) items[item.modality].push_back({&item, begin});
    }
    begin += sample.size();
  }
  std::map<std::string, MediaBatch> batches;
  for (const auto& [modality, placed] : items) batches[modality] = gather(modality, placed);
  return batches;
}

torch::Tensor position_ids(const MicroBatch& micro_batch, int axes) {
  VEOMNI_CHECK(axes == 1 || axes == 3, "position ids have 1 or 3 axes, not ", axes);
  const int64_t T = micro_batch.num_tokens();
  torch::Tensor positions =
      axes == 1 ? torch::empty({T}, torch::kInt64) : torch::empty({3, T}, torch::kInt64);
  int64_t* at = positions.data_ptr<int64_t>();
  for (const Sample& sample : micro_batch.samples) {
    if (axes == 3) write_mrope_positions(sample, at, T);
    for (int64_t i = 0; axes == 1 && i < sample.size(); ++i) at[i] = i;
    at += sample.size();
  }
  return positions;
}
}  // namespace

Batch collate(const MicroBatch& micro_batch, int position_axes) {
  const int64_t T = micro_batch.num_tokens();
  Batch batch;
  batch.input_ids_T = torch::empty({T}, torch::kInt64);
  batch.labels_T = torch::empty({T}, torch::kInt64);
  batch.cu_seqlens = {0};
  int64_t* ids = batch.input_ids_T.data_ptr<int64_t>();
  int64_t* labels = batch.labels_T.data_ptr<int64_t>();
  int64_t at = 0;
  for (const Sample& sample : micro_batch.samples) {
    check_media(sample);
    for (int64_t i = 0; i < sample.size(); ++i, ++at) {
      ids[at] = sample.ids[i];
      labels[at] = i + 1 < sample.size() ? sample.labels[i + 1] : kNoTarget;
      batch.num_loss_tokens += labels[at] != kNoTarget;
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(at));
    batch.max_seqlen = std::max(batch.max_seqlen, static_cast<int32_t>(sample.size()));
    batch.sample_ids.push_back(sample.id);
    batch.source_of_sample.push_back(sample.ref.source);
    batch.target_bytes_of_sample.push_back(sample.target_bytes);
  }
  batch.position_ids_T = position_ids(micro_batch, position_axes);
  batch.inputs = gather_media(micro_batch, false);
  batch.targets = gather_media(micro_batch, true);
  return batch;
}

}  // namespace veomni::data
