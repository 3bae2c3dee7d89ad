// SPDX-License-Identifier: Apache-2.0
#include "veomni/generate/generate.h"

#include <gmock/gmock.h>

#include "veomni/base/error.h"
#include "veomni/generate/kv_cache.h"
#include "veomni/model/build.h"
#include "veomni/nn/materialize.h"
#include "veomni/ops/compare.h"

namespace veomni::generate {
namespace {

std::unique_ptr<model::OmniModel> tiny_model(bool window) {
  model::ModelOptions options;
  options.foundation.config = YAML::Load(
      "{model_type: qwen3, vocab_size: 61, hidden_size: 32, intermediate_size: 48, "
      "num_hidden_layers: 3, "
      "num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, initializer_range: 0.3, "
      "max_window_layers: 1" +
      std::string(window ? ", use_sliding_window: true, sliding_window: 4}" : "}"));
  auto model = model::build_model(options, {torch::kMeta, torch::kDouble});
  nn::materialize(*model, torch::kCPU, nn::Masters::kNone);
  model::fill_weights(*model, options, 5);
  return model;
}

// Text in, text out.
std::vector<std::vector<int32_t>> write(model::OmniModel& model,
                                        const std::vector<std::vector<int32_t>>& prompts,
                                        const GenerateOptions& options,
                                        const GenerateRules& rules = {}) {
  std::vector<Prompt> all(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    all[i].sample.ids = prompts[i];
    all[i].sample.labels.assign(prompts[i].size(), -100);
    all[i].stream = i;
  }
  std::vector<std::vector<int32_t>> texts;
  for (const auto& generation : generate(model, all, options, rules))
    texts.push_back(generation.text());
  return texts;
}

const std::vector<std::vector<int32_t>> kPrompts = {
    {1, 2, 3, 4, 5}, {7}, {11, 12, 13, 14, 15, 16, 17, 18, 19}};

// Greedy without any cache: the whole sequence again for every token.
std::vector<int32_t> recompute_greedy(model::OmniModel& model, std::vector<int32_t> tokens,
                                      int64_t count) {
  torch::NoGradGuard no_grad;
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t n = static_cast<int64_t>(tokens.size());
    auto ids = torch::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()));
    auto logits = model.logits({.ids_T = ids, .seq = nn::make_sequence({n})});
    out.push_back(static_cast<int32_t>(logits[n - 1].argmax().item<int64_t>()));
    tokens.push_back(out.back());
  }
  return out;
}

class Generate : public testing::TestWithParam<bool> {};

TEST_P(Generate, CachedBatchEqualsRecomputingEachSequence) {
  auto model = tiny_model(GetParam());
  GenerateOptions options;
  options.max_new_tokens = 12;
  const auto got = write(*model, kPrompts, options);
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    EXPECT_EQ(got[i], recompute_greedy(*model, kPrompts[i], 12)) << i;
  }
}

TEST_P(Generate, ASequencesDrawsDoNotDependOnItsNeighbours) {
  auto model = tiny_model(GetParam());
  GenerateOptions options;
  options.max_new_tokens = 20;
  options.sampling = {.temperature = 1.0, .top_p = 0.9, .seed = 3};
  const auto together = write(*model, kPrompts, options);
  // Sequence 0 alone is still sequence 0: the same key.
  EXPECT_EQ(write(*model, {kPrompts[0]}, options)[0], together[0]);
  EXPECT_NE(together[0], together[1]);
}

INSTANTIATE_TEST_SUITE_P(Window, Generate, testing::Bool());

TEST(GenerateStops, AtAStopIdWhichIsNotPartOfTheResult) {
  auto model = tiny_model(false);
  GenerateOptions options;
  options.max_new_tokens = 12;
  const auto free = write(*model, kPrompts, options);
  const auto stopped = write(*model, kPrompts, options, {.stop_ids = {free[2][3]}});
  const auto end = std::find(free[2].begin(), free[2].end(), free[2][3]);
  EXPECT_EQ(stopped[2], std::vector<int32_t>(free[2].begin(), end));
}

TEST(GenerateStops, AnEmptyPromptIsTheUsersMistake) {
  auto model = tiny_model(false);
  EXPECT_THROW(write(*model, {{1}, {}}, {}), ConfigError);
}

TEST(KvCacheScope, RestoresPlainAttention) {
  auto model = tiny_model(false);
  const model::ModelInput input{.ids_T = torch::arange(6), .seq = nn::make_sequence({6})};
  torch::NoGradGuard no_grad;
  const auto before = model->logits(input);
  write(*model, kPrompts, {.max_new_tokens = 2});
  EXPECT_TRUE(torch::equal(model->logits(input), before));
}

}  // namespace
}  // namespace veomni::generate
