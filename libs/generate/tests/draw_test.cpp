// SPDX-License-Identifier: Apache-2.0
// Text and pictures in one sequence.
#include <gmock/gmock.h>

#include "veomni/generate/generate.h"
#include "veomni/model/build.h"
#include "veomni/nn/materialize.h"

namespace veomni::generate {
namespace {

constexpr int32_t kBegin = 50, kEnd = 51;
constexpr int64_t kCodesEach = 4;
const model::Grid kGrid = {3, 4, 4};

std::unique_ptr<model::OmniModel> tiny_model() {
  model::ModelOptions options;
  options.foundation.config = YAML::Load(
      "{model_type: qwen3, vocab_size: 61, hidden_size: 32, intermediate_size: 48, "
      "num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, "
      "initializer_range: 0.3}");
  options.decoders["image"].type = "janus_vq16";
  options.decoders["image"].config = YAML::Load(
      "{base_channels: 32, channel_multiplier: [1, 1], num_res_blocks: 1, latent_channels: 32, "
      "embed_dim: 8, num_embeddings: 19, num_patches: 2, initializer_range: 0.3}");
  auto model = model::build_model(options, {torch::kMeta, torch::kDouble});
  nn::materialize(*model, torch::kCPU, nn::Masters::kNone);
  model::fill_weights(*model, options, 5);
  return model;
}

Prompt prompt_of(std::vector<int32_t> ids, std::vector<int32_t> without, uint64_t stream) {
  Prompt prompt;
  prompt.sample.ids = std::move(ids);
  prompt.sample.labels.assign(prompt.sample.ids.size(), -100);
  prompt.unconditional.ids = std::move(without);
  prompt.unconditional.labels.assign(prompt.unconditional.ids.size(), -100);
  prompt.stream = stream;
  return prompt;
}

const std::vector<Prompt> kPrompts = {prompt_of({1, 2, 3, 4, 5}, {1, 5}, 0),
                                      prompt_of({7}, {8}, 1),
                                      prompt_of({11, 12, 13, 14, 15, 16}, {11, 16}, 2)};

GenerateRules drawing_rules() {
  GenerateRules rules;
  rules.media["image"] = {kBegin, kEnd, kGrid};
  rules.force = "image";
  return rules;
}

bool same(const Generation& a, const Generation& b) {
  if (a.segments.size() != b.segments.size()) return false;
  for (size_t i = 0; i < a.segments.size(); ++i) {
    if (a.segments[i].modality != b.segments[i].modality ||
        a.segments[i].tokens != b.segments[i].tokens)
      return false;
  }
  return true;
}

class Draw : public testing::TestWithParam<double> {};

TEST_P(Draw, ABatchEqualsItsSequencesOneByOne) {
  auto model = tiny_model();
  GenerateOptions options;
  options.max_new_tokens = 6;
  options.sampling.temperature = 1;
  options.guidance = GetParam();
  const auto together = generate(*model, kPrompts, options, drawing_rules());
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    EXPECT_EQ(together[i].codes("image").size(), kCodesEach);
    EXPECT_TRUE(same(generate(*model, {kPrompts[i]}, options, drawing_rules())[0], together[i]))
        << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Guidance, Draw, testing::Values(1.0, 1.5, 0.0));

TEST(DrawThenWrite, ThePictureStandsBetweenItsTokensAndTextGoesOn) {
  auto model = tiny_model();
  GenerateOptions options;
  options.max_new_tokens = 3;
  const auto result = generate(*model, kPrompts, options, drawing_rules())[0];
  ASSERT_EQ(result.segments.size(), 3);
  EXPECT_EQ(result.segments[0].modality, "text");
  EXPECT_THAT(result.segments[0].tokens, testing::ElementsAre(kBegin));
  EXPECT_EQ(result.segments[1].modality, "image");
  EXPECT_EQ(result.segments[1].tokens.size(), kCodesEach);
  EXPECT_EQ(result.segments[2].tokens.front(), kEnd);
  EXPECT_EQ(result.segments[2].tokens.size(), 1 + 3);
}

TEST(DrawThenWrite, AnItemEndsTheAnswerWhereOneIsAskedFor) {
  auto model = tiny_model();
  auto rules = drawing_rules();
  rules.one_item = true;
  const auto result = generate(*model, kPrompts, {}, rules)[1];
  EXPECT_EQ(result.codes("image").size(), kCodesEach);
  EXPECT_THAT(result.text(), testing::ElementsAre(kBegin, kEnd));
}

TEST(DrawThenWrite, TheModelBeginsAPictureByItself) {
  auto model = tiny_model();
  GenerateOptions options;
  options.max_new_tokens = 6;
  // What it would write third now begins a picture.
  const auto text = generate(*model, {kPrompts[0]}, options, {})[0].text();
  GenerateRules rules;
  rules.media["image"] = {text[2], kEnd, kGrid};
  const auto result = generate(*model, {kPrompts[0]}, options, rules)[0];
  ASSERT_GE(result.segments.size(), 2);
  const auto first = std::find(text.begin(), text.end(), text[2]);
  EXPECT_EQ(result.segments[0].tokens, std::vector<int32_t>(text.begin(), first + 1));
  EXPECT_EQ(result.segments[1].modality, "image");
  EXPECT_EQ(result.segments[1].tokens.size(), kCodesEach);
}

// The logits over codes after `ids`, the begin token and `codes`, computed without a cache.
torch::Tensor recomputed(model::OmniModel& model, const std::vector<int32_t>& ids,
                         const std::vector<int32_t>& codes) {
  std::vector<int64_t> all(ids.begin(), ids.end());
  all.push_back(kBegin);
  const int64_t first = static_cast<int64_t>(all.size());
  all.insert(all.end(), codes.size(), 0);
  const int64_t T = static_cast<int64_t>(all.size());
  model::ModelInput input{.ids_T = torch::tensor(all), .seq = nn::make_sequence({T})};
  input.skip_absent = true;
  input.codes["image"] = {
      torch::tensor(std::vector<int64_t>(codes.begin(), codes.end()), torch::kLong),
      torch::arange(first, T)};
  const auto none = torch::empty({0}, torch::kLong);
  return model.next(input, none, {{"image", torch::tensor({T - 1})}}).codes_RC.at("image")[0];
}

TEST(Guidance, LogitsGoBeyondThoseWithoutTheText) {
  auto model = tiny_model();
  torch::NoGradGuard no_grad;
  GenerateOptions options;
  options.media_sampling.temperature = 0;
  options.guidance = 2.5;
  auto rules = drawing_rules();
  rules.one_item = true;
  for (const auto& prompt : kPrompts) {
    const auto codes = generate(*model, {prompt}, options, rules)[0].codes("image");
    std::vector<int32_t> before;
    for (int32_t code : codes) {
      const auto with = recomputed(*model, prompt.sample.ids, before);
      const auto without = recomputed(*model, prompt.unconditional.ids, before);
      EXPECT_EQ((without + 2.5 * (with - without)).argmax().item<int64_t>(), code);
      before.push_back(code);
    }
  }
}

}  // namespace
}  // namespace veomni::generate
