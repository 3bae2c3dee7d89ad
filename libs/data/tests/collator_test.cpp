// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/collator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

namespace veomni::data {

namespace {
using testing::ElementsAre;

std::vector<int64_t> values(const torch::Tensor& tensor) {
  EXPECT_EQ(tensor.scalar_type(), torch::kInt64);
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}
}  // namespace

TEST(Collator, PacksShiftsAndRestartsPositions) {
  MicroBatch micro_batch;
  micro_batch.samples.push_back({.ids = {1, 2, 3},
                                 .labels = {-100, 2, 3},
                                 .id = 11,
                                 .ref = {.source = 1},
                                 .target_bytes = 5});
  micro_batch.samples.push_back(
      {.ids = {4, 5}, .labels = {4, -100}, .id = 12, .ref = {.source = 0}, .target_bytes = 0});
  micro_batch.samples.push_back({.ids = {6}, .labels = {6}, .id = 13});
  const Batch batch = collate(micro_batch);
  EXPECT_THAT(values(batch.input_ids_T), ElementsAre(1, 2, 3, 4, 5, 6));
  // The first sample's last token has no target although the next sample's first label is one.
  EXPECT_THAT(values(batch.labels_T), ElementsAre(2, 3, -100, -100, -100, -100));
  EXPECT_THAT(values(batch.position_ids_T), ElementsAre(0, 1, 2, 0, 1, 0));
  EXPECT_THAT(batch.cu_seqlens, ElementsAre(0, 3, 5, 6));
  EXPECT_EQ(batch.max_seqlen, 3);
  EXPECT_EQ(batch.num_loss_tokens, 2);
  EXPECT_EQ(batch.num_tokens(), 6);
  EXPECT_THAT(batch.sample_ids, ElementsAre(11, 12, 13));
  EXPECT_THAT(batch.source_of_sample, ElementsAre(1, 0, 0));
  EXPECT_THAT(batch.target_bytes_of_sample, ElementsAre(5, 0, 0));
}

TEST(Collator, EmptyMicroBatch) {
  const Batch batch = collate({});
  for (const torch::Tensor& tensor : {batch.input_ids_T, batch.labels_T, batch.position_ids_T}) {
    EXPECT_EQ(tensor.sizes(), torch::IntArrayRef({0}));
    EXPECT_EQ(tensor.scalar_type(), torch::kInt64);
  }
  EXPECT_THAT(batch.cu_seqlens, ElementsAre(0));
  EXPECT_EQ(batch.max_seqlen, 0);
  EXPECT_EQ(batch.num_loss_tokens, 0);
}

}  // namespace veomni::data
