// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/collator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "fake_processor.h"

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

namespace {
MediaItem item(const std::string& modality, bool target, int64_t begin, const std::string& grid) {
  const auto bytes = std::as_bytes(std::span(grid));
  return {modality, target, begin,
          std::make_shared<media::Features>(FakeProcessor().process(bytes, "test"))};
}

Sample sample_of(int64_t tokens, std::vector<MediaItem> media) {
  Sample sample;
  sample.ids.assign(tokens, 1);
  sample.labels.assign(tokens, -100);
  sample.media = std::move(media);
  return sample;
}
}  // namespace

TEST(Collator, GathersMediaByModalityAndDirection) {
  MicroBatch micro_batch;
  micro_batch.samples = {
      sample_of(12, {item("image", false, 1, "1 2 2 100"), item("image", true, 7, "1 1 3 200")}),
      sample_of(3, {}),
      sample_of(8, {item("audio", false, 0, "2 1 1 300"), item("image", false, 4, "1 1 2 400")})};
  const Batch batch = collate(micro_batch);
  ASSERT_EQ(batch.inputs.size(), 2u);
  ASSERT_EQ(batch.targets.size(), 1u);
  const MediaBatch& pictures = batch.inputs.at("image");
  EXPECT_THAT(values(pictures.tokens_R), ElementsAre(1, 2, 3, 4, 19, 20));
  EXPECT_EQ(pictures.features_PF.sizes(), torch::IntArrayRef({12, 3}));
  EXPECT_EQ(pictures.features_PF.scalar_type(), torch::kFloat32);
  EXPECT_EQ(pictures.features_PF[0][0].item<float>(), 100);
  EXPECT_EQ(pictures.features_PF[7][2].item<float>(), 100 + 23);
  EXPECT_EQ(pictures.features_PF[8][0].item<float>(), 400);
  EXPECT_THAT(pictures.grids, ElementsAre(media::Grid{1, 4, 2}, media::Grid{1, 2, 2}));
  EXPECT_THAT(values(batch.inputs.at("audio").tokens_R), ElementsAre(15, 16));
  EXPECT_THAT(values(batch.targets.at("image").tokens_R), ElementsAre(7, 8, 9));
  EXPECT_EQ(batch.targets.at("image").features_PF[0][0].item<float>(), 200);
}

// The positions are worked out by hand; tests/data compares random conversations with transformers.
TEST(Collator, MultimodalPositions) {
  MicroBatch micro_batch;
  micro_batch.samples = {
      sample_of(12, {item("image", false, 2, "1 2 3"), item("audio", false, 9, "2 1 1")}),
      sample_of(2, {})};
  const Batch batch = collate(micro_batch, 3);
  ASSERT_EQ(batch.position_ids_T.sizes(), torch::IntArrayRef({3, 14}));
  EXPECT_THAT(values(batch.position_ids_T[0].contiguous()),
              ElementsAre(0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 7, 8, 0, 1));
  EXPECT_THAT(values(batch.position_ids_T[1].contiguous()),
              ElementsAre(0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7, 8, 0, 1));
  EXPECT_THAT(values(batch.position_ids_T[2].contiguous()),
              ElementsAre(0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 0, 1));
  EXPECT_THAT(values(collate(micro_batch).position_ids_T),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1));
  EXPECT_EQ(collate({}, 3).position_ids_T.sizes(), torch::IntArrayRef({3, 0}));
  EXPECT_THROW(collate(micro_batch, 2), Error);
}

TEST(Collator, RefusesMediaThatDoNotLieAsTheySay) {
  const auto refused = [](std::vector<MediaItem> media) {
    MicroBatch micro_batch;
    micro_batch.samples = {sample_of(6, std::move(media))};
    EXPECT_THROW(collate(micro_batch), Error);
  };
  refused({item("image", false, 3, "1 2 2")});
  refused({item("image", false, -1, "1 2 2")});
  refused({item("image", false, 0, "1 2 2"), item("image", false, 3, "1 1 1")});
  refused({item("image", false, 3, "1 1 1"), item("image", false, 0, "1 1 1")});
  auto features = std::make_shared<media::Features>();
  features->tokens = 2;
  features->token_grid = {1, 1, 1};
  refused({{"image", false, 0, features}});
  auto wide = std::make_shared<media::Features>();
  *wide = {.values = {1, 2, 3, 4}, .rows = 1, .width = 4, .tokens = 1, .token_grid = {1, 1, 1}};
  refused({item("image", false, 0, "1 1 1"), {"image", false, 1, wide}});
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
