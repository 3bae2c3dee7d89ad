// SPDX-License-Identifier: Apache-2.0
// What every encoder promises: zero items, items that do not see each other, configs, file names. Their numbers are
// compared with transformers in tests/parity.
#include <gmock/gmock.h>

#include "refusal.h"
#include "veomni/base/error.h"
#include "veomni/model/registration.h"
#include "veomni/nn/materialize.h"
#include "veomni/ops/compare.h"

namespace veomni::model {
namespace {

using nlohmann::json;

struct Case {
  std::string modality, architecture, projector;
  json config;
  std::vector<Grid> grids;
  std::vector<int64_t> tokens;  ///< of each grid
  std::vector<std::pair<json, std::string>> refused;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.architecture; }

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {"image",
       "Qwen2VisionTransformerPretrainedModel",
       "merger.",
       {{"depth", 2}, {"embed_dim", 32}, {"hidden_size", 24}, {"num_heads", 2}, {"patch_size", 4}},
       {{1, 4, 6}, {2, 2, 2}, {1, 2, 4}},
       {6, 2, 2},
       {{{{"embed_dim", 30}}, "embed_dim=30"},
        {{{"hidden_act", "relu"}}, "'relu'"},
        {{{"depth", 0}}, "depth"},
        {{{"patch_size", json::array({14, 14})}}, "patch_size"}}},
      {"audio",
       "Qwen2_5OmniAudioEncoder",
       "output.proj.",
       {{"encoder_layers", 2},
        {"encoder_attention_heads", 2},
        {"encoder_ffn_dim", 48},
        {"d_model", 32},
        {"output_dim", 24},
        {"num_mel_bins", 8},
        {"n_window", 5}},
       {{23, 1, 1}, {1, 1, 1}, {2, 1, 1}, {3, 1, 1}, {20, 1, 1}},
       {6, 0, 0, 1, 5},
       {{{{"d_model", 33}}, "d_model=33"},
        {{{"d_model", 2}}, "more than 2"},
        {{{"activation_function", "silu"}}, "'silu'"},
        {{{"n_window", 2000}}, "max_source_positions=1500"},
        {{{"output_dim", "wide"}}, "output_dim"}}}};
  return list;
}

class EncoderTest : public testing::TestWithParam<Case> {
 protected:
  static json named_config() {
    json config = GetParam().config;
    config["architectures"] = {GetParam().architecture};
    return config;
  }

  static std::unique_ptr<Encoder> make(const json& config, const nn::ParamOptions& options) {
    return make_encoder(find_part("encoder", GetParam().modality, "", config, "config.json"),
                        "config.json", options);
  }

  static std::unique_ptr<Encoder> filled(torch::ScalarType dtype = torch::kDouble) {
    auto encoder = make(named_config(), {torch::kCPU, dtype});
    nn::assign_names(*encoder);
    nn::initialize(*encoder, 1);
    return encoder;
  }

  static int64_t rows_of(const std::vector<Grid>& grids) {
    int64_t rows = 0;
    for (const auto& [t, h, w] : grids) rows += t * h * w;
    return rows;
  }

  static torch::Tensor features(const Encoder& encoder, int64_t rows) {
    const int64_t n = rows * encoder.feature_width();
    return torch::arange(n, torch::kDouble).mul(0.37).sin().view({rows, encoder.feature_width()});
  }
};

TEST_P(EncoderTest, CountsItsTokens) {
  const auto encoder = filled();
  const auto& c = GetParam();
  for (size_t i = 0; i < c.grids.size(); ++i) {
    EXPECT_EQ(encoder->num_tokens(c.grids[i]), c.tokens[i]);
    const Grid lie = encoder->token_grid(c.grids[i]);
    EXPECT_EQ(lie[0] * lie[1] * lie[2], c.tokens[i]);
  }
  const auto out = encoder->lm_encode(features(*encoder, rows_of(c.grids)), c.grids);
  EXPECT_EQ(out.size(0), std::accumulate(c.tokens.begin(), c.tokens.end(), int64_t{0}));
  EXPECT_EQ(out.size(1), encoder->output_size());
}

TEST_P(EncoderTest, ItemsDoNotSeeEachOther) {
  const auto encoder = filled();
  const auto& grids = GetParam().grids;
  const auto all = features(*encoder, rows_of(grids));
  std::vector<torch::Tensor> alone;
  int64_t at = 0;
  for (const Grid& grid : grids) {
    const int64_t rows = rows_of({grid});
    alone.push_back(encoder->lm_encode(all.narrow(0, at, rows), {grid}));
    at += rows;
  }
  EXPECT_LE(ops::relative_error(encoder->lm_encode(all, grids), torch::cat(alone)), 1e-12);
}

TEST_P(EncoderTest, NoItemGivesZeroGradients) {
  for (auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const auto encoder = filled(dtype);
    const auto out =
        encoder->lm_encode(torch::empty({0, encoder->feature_width()}, torch::dtype(dtype)), {});
    EXPECT_EQ(out.sizes(), (std::vector<int64_t>{0, encoder->output_size()}));
    out.sum().backward();
    for (const auto& [name, parameter] : encoder->named_parameters()) {
      ASSERT_TRUE(parameter.grad().defined()) << name;
      EXPECT_FALSE(parameter.grad().any().item<bool>()) << name;
    }
  }
}

TEST_P(EncoderTest, EveryParameterHasAGradient) {
  const auto encoder = filled();
  const auto& grids = GetParam().grids;
  encoder->lm_encode(features(*encoder, rows_of(grids)), grids).sum().backward();
  for (const auto& [name, parameter] : encoder->named_parameters())
    EXPECT_TRUE(parameter.grad().defined()) << name;
}

TEST_P(EncoderTest, GridsThatAreNotTheFeaturesAreRefused) {
  const auto encoder = filled();
  auto grids = GetParam().grids;
  const auto x = features(*encoder, rows_of(grids));
  grids.pop_back();
  EXPECT_THROW(encoder->lm_encode(x, grids), Error);
}

TEST_P(EncoderTest, TheProjectorIsAPart) {
  const auto encoder = filled();
  int64_t inside = 0, outside = 0;
  for (const auto& [name, parameter] : encoder->named_parameters()) {
    EXPECT_EQ(encoder->is_projector(name), name.starts_with(GetParam().projector)) << name;
    ++(encoder->is_projector(name) ? inside : outside);
  }
  EXPECT_GT(inside, 0);
  EXPECT_GT(outside, 0);
}

TEST_P(EncoderTest, FlopsGrowWithTheItems) {
  const auto encoder = filled();
  const Grid grid = GetParam().grids.front();
  EXPECT_EQ(encoder->flops({}), 0);
  EXPECT_DOUBLE_EQ(encoder->flops({grid, grid}), 2 * encoder->flops({grid}));
  EXPECT_GT(encoder->flops({grid}), 0);
}

TEST_P(EncoderTest, ASavedPartIsFoundAgain) {
  // Inside a whole model's config a part is not named; in a directory of its own it must be.
  json unnamed = GetParam().config;
  const auto part = look_for_part("encoder", GetParam().modality, "", named_config());
  ASSERT_TRUE(part);
  const auto encoder =
      make_encoder({part->entry, unnamed, nullptr}, "config.json", {torch::kMeta, torch::kFloat});
  const auto again = look_for_part("encoder", GetParam().modality, "", encoder->config());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->entry, part->entry);
  json by_type = encoder->config();
  by_type.erase("architectures");
  ASSERT_TRUE(look_for_part("encoder", GetParam().modality, "", by_type));
}

TEST_P(EncoderTest, WhatDoesNotFitIsNamedWithTheFile) {
  for (const auto& [change, expected] : GetParam().refused) {
    json changed = named_config();
    changed.update(change);
    EXPECT_THAT(refusal([&] {
                  make(changed, {torch::kMeta, torch::kFloat});
                }),
                testing::AllOf(testing::HasSubstr("config.json"), testing::HasSubstr(expected)))
        << change;
  }
}

TEST_P(EncoderTest, EveryParameterHasItsFileTensors) {
  const auto encoder = filled();
  EXPECT_NO_THROW(encoder->rules().resolve_all(nn::param_shapes(*encoder)));
}

INSTANTIATE_TEST_SUITE_P(All, EncoderTest, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.architecture; });

TEST(Qwen2VlVision, FlopsAreThoseOfItsProducts) {
  const json config = {{"architectures", {"Qwen2VisionTransformerPretrainedModel"}},
                       {"depth", 3},
                       {"embed_dim", 32},
                       {"hidden_size", 24},
                       {"num_heads", 2},
                       {"mlp_ratio", 2},
                       {"patch_size", 4}};
  const auto encoder = make_encoder(find_part("encoder", "image", "", config, "config.json"),
                                    "config.json", {torch::kMeta, torch::kFloat});
  // Multiply-adds of 2 frames of 4 x 6 patches (48, 12 tokens): patches, blocks, their two attention products, merger.
  const double products = 48 * (3 * 2 * 16) * 32 +
                          3 * (48 * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 2 * 24 * 24 * 32) +
                          12 * (128 * 128 + 128 * 24);
  EXPECT_DOUBLE_EQ(encoder->flops({{2, 4, 6}}), 2 * products);
}

TEST(Qwen2_5OmniAudio, FlopsAreThoseOfItsProducts) {
  const json config = {{"architectures", {"Qwen2_5OmniAudioEncoder"}},
                       {"encoder_layers", 3},
                       {"encoder_attention_heads", 2},
                       {"encoder_ffn_dim", 48},
                       {"d_model", 32},
                       {"output_dim", 24},
                       {"num_mel_bins", 8},
                       {"n_window", 5}};
  const auto encoder = make_encoder(find_part("encoder", "audio", "", config, "config.json"),
                                    "config.json", {torch::kMeta, torch::kFloat});
  // Multiply-adds of 23 frames in chunks of 10, 10 and 3 (12 rows, 6 tokens): convolutions, layers, their two attention
  // products within a chunk's 5, 5 and 2 rows, output.
  const double products = 3 * (23 * 8 * 32 + 12 * 32 * 32) +
                          3 * (12 * (4 * 32 * 32 + 2 * 32 * 48) + 2 * (25 + 25 + 4) * 32) +
                          6 * 32 * 24;
  EXPECT_DOUBLE_EQ(encoder->flops({{23, 1, 1}}), 2 * products);
}

}  // namespace
}  // namespace veomni::model
