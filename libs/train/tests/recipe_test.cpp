// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/recipe.h"

#include <gmock/gmock.h>

#include <fstream>

#include "veomni/base/error.h"

namespace veomni::train {
namespace {

std::string write(const std::string& text) {
  const std::string path = testing::TempDir() + "recipe.yaml";
  std::ofstream(path) << text;
  return path;
}

std::string refusal(const std::string& text, const std::vector<Override>& overrides = {}) {
  try {
    load_recipe(write(text), overrides);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

constexpr const char* kGood =
    "model: {foundation: {path: hf}}\n"
    "data: {sources: [{path: a.jsonl}], tokenizer: t}\n"
    "optim: {lr: 1e-3}\n"
    "train: {steps: 10}\n";

TEST(Recipe, OverridesReplaceValues) {
  const auto recipe = load_recipe(
      write(kGood), {{"optim.lr", "0.5"}, {"train.steps", "7"}, {"mesh.dp_shard", "2"}});
  EXPECT_EQ(recipe.optim.lr, 0.5);
  EXPECT_EQ(recipe.train.steps, 7);
  EXPECT_EQ(recipe.mesh.dp_shard, 2);
}

TEST(Recipe, MistakesNameLineKeyAndCure) {
  using testing::HasSubstr;
  EXPECT_THAT(refusal(std::string(kGood) + "trian: {steps: 3}\n"),
              testing::AllOf(HasSubstr("recipe.yaml:5"), HasSubstr("trian"),
                             HasSubstr("did you mean 'train'")));
  EXPECT_THAT(refusal("optim: {lrr: 1}\n"), HasSubstr("optim.lr"));
  EXPECT_THAT(refusal("optim: {lr: fast}\n"),
              testing::AllOf(HasSubstr("optim.lr"), HasSubstr("fast")));
  EXPECT_THAT(refusal("optim: {lr: -1}\n"), HasSubstr("at least 0"));
  EXPECT_THAT(refusal("optim: {name: adam}\n"), HasSubstr("adamw"));
  EXPECT_THAT(refusal("parallel: {default: {strategy: fsdp3}}\n"), HasSubstr("fsdp2"));
  EXPECT_THAT(refusal("train: {steps: 3}\n"), HasSubstr("data.sources"));
  EXPECT_THAT(refusal("train: [1\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(refusal("- a\n"), HasSubstr("recipe.yaml"));
  EXPECT_THAT(refusal(kGood, {{"optim.lrr", "1"}}), HasSubstr("optim.lr"));
  EXPECT_EQ(refusal(kGood), "accepted");
}

TEST(Recipe, ResolvedReadsBackTheSame) {
  const auto recipe = load_recipe(write(kGood));
  const std::string text = resolved_recipe(recipe);
  EXPECT_EQ(resolved_recipe(load_recipe(write(text))), text);
}

TEST(Recipe, TheReferencePageIsUpToDate) {
  std::ifstream file(std::string(VEOMNI_SOURCE_DIR) + "/docs/recipe.md");
  const std::string page((std::istreambuf_iterator<char>(file)), {});
  EXPECT_THAT(page, testing::HasSubstr(recipe_reference()))
      << "run: veomni docs recipe, and put it into docs/recipe.md";
}

}  // namespace
}  // namespace veomni::train
