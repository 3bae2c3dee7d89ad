// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/names.h"

#include <gtest/gtest.h>

namespace veomni {
namespace {

TEST(NearestName, FindsTypos) {
  const std::vector<std::string> known = {"learning_rate", "weight_decay", "betas", "lr"};
  EXPECT_EQ(nearest_name("learning_rat", known), "learning_rate");
  EXPECT_EQ(nearest_name("leraning_rate", known), "learning_rate");
  EXPECT_EQ(nearest_name("beta", known), "betas");
  EXPECT_EQ(nearest_name("l", known), "lr") << "one edit is allowed however short the name";
}

TEST(NearestName, StaysSilentWhereNothingIsNear) {
  EXPECT_EQ(nearest_name("hidden_size", {"lr", "betas"}), "");
  EXPECT_EQ(nearest_name("zz", {"lr"}), "");
  EXPECT_EQ(nearest_name("anything", {}), "");
  EXPECT_EQ(nearest_name("", {"lr"}), "");
}

TEST(NearestName, PrefersTheNearer) {
  EXPECT_EQ(nearest_name("qwen2", {"qwen25", "qwen3", "qwen2"}), "qwen2");
}

TEST(Join, PutsSeparatorsBetween) {
  EXPECT_EQ(join({}), "");
  EXPECT_EQ(join({"a"}), "a");
  EXPECT_EQ(join({"a", "b", "c"}), "a, b, c");
  EXPECT_EQ(join({"a", "b"}, "/"), "a/b");
}

TEST(UnknownNameMessage, NamesTheThingTheNearestAndTheKnown) {
  EXPECT_EQ(unknown_name_message("foundation", "quen3", {"llama", "qwen3"}),
            "unknown foundation 'quen3'; did you mean 'qwen3'? (known: llama, qwen3)");
  EXPECT_EQ(unknown_name_message("foundation", "gpt", {"qwen3"}),
            "unknown foundation 'gpt' (known: qwen3)");
}

TEST(MatchesPattern, StarStandsForAnyRun) {
  const std::string path = "foundation.layers.3.attention";
  for (const char* pattern :
       {"foundation.layers.3.attention", "*", "foundation.*", "*.attention",
        "foundation.layers.*.attention", "*layers*", "foundation.layers.3.attention*", "**"}) {
    EXPECT_TRUE(matches_pattern(path, pattern)) << pattern;
  }
  for (const char* pattern : {"", "foundation", "attention", "*.mlp", "foundation.*.mlp", "layers*",
                              "foundation.layers.3.attention.*"}) {
    EXPECT_FALSE(matches_pattern(path, pattern)) << pattern;
  }
  EXPECT_TRUE(matches_pattern("", ""));
  EXPECT_TRUE(matches_pattern("", "*"));
  EXPECT_TRUE(matches_pattern("aab", "*ab")) << "the star must give back what it took";
}

}  // namespace
}  // namespace veomni
