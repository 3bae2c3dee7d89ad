// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "refusal.h"
#include "veomni/base/error.h"
#include "veomni/model/build.h"
#include "veomni/model/omni_model.h"
#include "veomni/model/registration.h"

namespace veomni::model {
namespace {

nlohmann::json config() {
  return {{"architectures", {"Qwen3ForCausalLM"}},
          {"vocab_size", 61},
          {"hidden_size", 32},
          {"intermediate_size", 48},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 8},
          {"tie_word_embeddings", false}};
}

std::string refusal(const nlohmann::json& config) {
  return model::refusal([&] {
    make_foundation(find_part("foundation", "", "", config, "config.json"), "config.json",
                    {torch::kMeta, torch::kFloat});
  });
}

TEST(Qwen3Config, WhatDoesNotFitIsNamedWithTheFile) {
  const std::vector<std::pair<nlohmann::json, std::string>> cases = {
      {{{"num_key_value_heads", 3}}, "num_key_value_heads=3"},
      {{{"hidden_act", "gelu"}}, "gelu"},
      {{{"head_dim", 7}}, "head_dim"},
      {{{"attention_dropout", 0.1}}, "attention_dropout"},
      {{{"hidden_size", 0}}, "hidden_size"},
      {{{"hidden_size", "many"}}, "hidden_size"},
      {{{"rope_parameters", {{"rope_type", "yarn"}}}}, "yarn"},
      {{{"use_sliding_window", true}, {"sliding_window", 4}, {"layer_types", {"full_attention"}}},
       "layer_types"},
  };
  for (const auto& [change, expected] : cases) {
    auto changed = config();
    changed.update(change);
    EXPECT_THAT(refusal(changed),
                testing::AllOf(testing::HasSubstr("config.json"), testing::HasSubstr(expected)));
  }
  EXPECT_EQ(refusal(config()), "accepted");
}

TEST(Registration, AnUnknownModelListsTheKnownOnes) {
  auto other = config();
  other["architectures"] = {"Qwen9ForCausalLM"};
  other["model_type"] = "qwen9";
  EXPECT_THAT(refusal(other),
              testing::AllOf(testing::HasSubstr("qwen9"), testing::HasSubstr("qwen3")));
}

TEST(Registration, ArchitectureComesBeforeModelType) {
  auto both = config();
  both["model_type"] = "something_else";
  EXPECT_EQ(refusal(both), "accepted");
}

TEST(BuildModel, NeedsEitherPathOrConfig) {
  ModelOptions options;
  EXPECT_THROW(build_model(options, {}), ConfigError);
  options.foundation.path = "somewhere";
  options.foundation.config = YAML::Load("{model_type: qwen3}");
  EXPECT_THROW(build_model(options, {}), ConfigError);
}

TEST(BuildModel, TrainNoneFreezesEveryParameter) {
  ModelOptions options;
  options.foundation.config = YAML::Load(config().dump());
  options.foundation.train = "none";
  auto model = build_model(options, {torch::kMeta, torch::kFloat});
  for (auto& [name, parameter] : model->named_parameters())
    EXPECT_FALSE(parameter.trainable()) << name;
}

}  // namespace
}  // namespace veomni::model
