// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/collator.h"

#include <torch/types.h>

#include <algorithm>

namespace veomni::data {

namespace {
constexpr int64_t kNoTarget = -100;
}

Batch collate(const MicroBatch& micro_batch, int /*position_axes*/) {
  const int64_t T = micro_batch.num_tokens();
  Batch batch;
  batch.input_ids_T = torch::empty({T}, torch::kInt64);
  batch.labels_T = torch::empty({T}, torch::kInt64);
  batch.position_ids_T = torch::empty({T}, torch::kInt64);
  batch.cu_seqlens = {0};
  int64_t* ids = batch.input_ids_T.data_ptr<int64_t>();
  int64_t* labels = batch.labels_T.data_ptr<int64_t>();
  int64_t* positions = batch.position_ids_T.data_ptr<int64_t>();
  int64_t at = 0;
  for (const Sample& sample : micro_batch.samples) {
    for (int64_t i = 0; i < sample.size(); ++i, ++at) {
      ids[at] = sample.ids[i];
      positions[at] = i;
      labels[at] = i + 1 < sample.size() ? sample.labels[i + 1] : kNoTarget;
      batch.num_loss_tokens += labels[at] != kNoTarget;
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(at));
    batch.max_seqlen = std::max(batch.max_seqlen, static_cast<int32_t>(sample.size()));
    batch.sample_ids.push_back(sample.id);
    batch.source_of_sample.push_back(sample.ref.source);
    batch.target_bytes_of_sample.push_back(sample.target_bytes);
  }
  return batch;
}

}  // namespace veomni::data
