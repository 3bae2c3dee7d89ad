// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "refusal.h"
#include "veomni/base/error.h"
#include "veomni/model/registration.h"
#include "veomni/nn/materialize.h"

namespace veomni::model {
namespace {

using nlohmann::json;

json config() {
  return {{"architectures", {"Qwen2ForCausalLM"}},
          {"vocab_size", 61},
          {"hidden_size", 32},
          {"intermediate_size", 48},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2}};
}

// As transformers writes a whole Qwen2-VL since text_config exists.
json whole() {
  json text = config();
  text.erase("architectures");
  text["model_type"] = "qwen2_vl_text";
  text["rope_parameters"] = {{"rope_type", "default"}, {"mrope_section", {1, 1, 2}}};
  return {
      {"architectures", {"Qwen2VLForConditionalGeneration"}},
      {"model_type", "qwen2_vl"},
      {"tie_word_embeddings", true},
      {"text_config", text},
      {"vision_config", {{"depth", 1}, {"embed_dim", 32}, {"hidden_size", 32}, {"num_heads", 2}}}};
}

// As the first files have it: nothing but the tower is nested.
json flat() {
  json config = whole();
  json text = config["text_config"];
  config.erase("text_config");
  text.erase("rope_parameters");
  text["rope_scaling"] = {{"type", "mrope"}, {"mrope_section", {1, 1, 2}}};
  text.update(config);
  return text;
}

std::unique_ptr<Foundation> make(const json& config) {
  return make_foundation(find_part("foundation", "", "", config, "config.json"), "config.json",
                         {torch::kMeta, torch::kFloat});
}

std::string refusal(const json& config) {
  return model::refusal([&] { make(config); });
}

TEST(Qwen2Config, WhatDoesNotFitIsNamedWithTheFile) {
  const std::vector<std::pair<json, std::string>> cases = {
      {{{"num_key_value_heads", 3}}, "num_key_value_heads=3"},
      {{{"hidden_act", "relu"}}, "'relu' is not supported by qwen2"},
      {{{"hidden_size", 36}}, "head_dim must be even"},
      {{{"attention_dropout", 0.1}}, "attention_dropout"},
      {{{"rope_scaling", {{"type", "yarn"}}}}, "'yarn' is not supported by qwen2"},
      {{{"rope_scaling", {{"type", "mrope"}}}}, "needs mrope_section"},
      {{{"rope_scaling", {{"type", "mrope"}, {"mrope_section", {1, 1}}}}}, "2 entries of 2"},
      {{{"rope_scaling", {{"type", "mrope"}, {"mrope_section", {1, 1, 3}}}}}, "3 entries of 5"},
      {{{"rope_scaling", {{"type", "mrope"}, {"mrope_section", {1, "x", 2}}}}}, "\"x\""},
  };
  for (const auto& [change, expected] : cases) {
    auto changed = config();
    changed.update(change);
    EXPECT_THAT(refusal(changed),
                testing::AllOf(testing::HasSubstr("config.json"), testing::HasSubstr(expected)));
  }
  EXPECT_EQ(refusal(config()), "accepted");
}

TEST(Qwen2Config, QwenVlNeedsItsThreeAxes) {
  auto config = whole();
  config["text_config"].erase("rope_parameters");
  EXPECT_THAT(refusal(config), testing::HasSubstr("needs mrope_section"));
}

TEST(Qwen2Config, TheTextPartOfQwen2VlIsAQwen2ByItself) {
  for (const json& config : {whole(), flat()}) {
    const auto model = make(config);
    EXPECT_EQ(model->position_axes(), 3);
    const auto params = model->named_parameters();
    const auto is_head = [](const auto& named) { return named.first == "lm_head.weight"; };
    EXPECT_TRUE(std::none_of(params.begin(), params.end(), is_head)) << "tied by the whole's word";
    // Alone in a directory it opens as what it is, with Qwen2-VL's own defaults written out.
    const json& alone = model->config();
    EXPECT_EQ(alone["architectures"], json({"Qwen2ForCausalLM"}));
    EXPECT_EQ(alone["model_type"], "qwen2");
    EXPECT_EQ(alone["rms_norm_eps"], 1e-5);
    EXPECT_EQ(alone["rope_parameters"]["rope_theta"], 1e6);
    EXPECT_EQ(alone["rope_parameters"]["mrope_section"], json({1, 1, 2}));
    EXPECT_EQ(alone["tie_word_embeddings"], true);
    EXPECT_FALSE(alone.contains("vision_config"));
    const auto again = make(alone);
    EXPECT_EQ(again->position_axes(), 3);
    EXPECT_EQ(again->config(), alone);
  }
  EXPECT_EQ(make(config())->position_axes(), 1);
}

TEST(Qwen2Config, ATextConfigIsKnownByItsModelType) {
  EXPECT_EQ(refusal(whole()["text_config"]), "accepted");
}

TEST(Qwen2, RulesNameTheFilesOfEveryExporter) {
  const auto part = find_part("foundation", "", "", whole(), "config.json");
  const auto model = make(whole());
  const auto shapes = nn::param_shapes(*model);
  std::vector<std::string> first;
  for (const auto& leads : part.within->leads) {
    const auto resolved = model->rules().under(leads).resolve_all(shapes);
    first.push_back(resolved.front().parts.front().tensor);
  }
  EXPECT_THAT(first, testing::ElementsAre("model.language_model.embed_tokens.weight",
                                          "model.embed_tokens.weight"));
}

// Heads of 8: 32 rows of q, 16 of k, 16 of v, for the weight and for the bias.
TEST(Qwen2, TheFusedProjectionIsThreeTensorsInTheFiles) {
  const auto model = make(config());
  std::vector<io::FilePart> parts;
  for (const auto& param : model->rules().resolve_all(nn::param_shapes(*model))) {
    if (param.param.starts_with("layers.1.attention.qkv."))
      parts.insert(parts.end(), param.parts.begin(), param.parts.end());
  }
  const std::string lead = "model.layers.1.self_attn.";
  EXPECT_THAT(parts, testing::ElementsAre(io::FilePart{lead + "q_proj.weight", {32, 32}, 0},
                                          io::FilePart{lead + "k_proj.weight", {16, 32}, 32 * 32},
                                          io::FilePart{lead + "v_proj.weight", {16, 32}, 48 * 32},
                                          io::FilePart{lead + "q_proj.bias", {32}, 0},
                                          io::FilePart{lead + "k_proj.bias", {16}, 32},
                                          io::FilePart{lead + "v_proj.bias", {16}, 48}));
}

}  // namespace
}  // namespace veomni::model
