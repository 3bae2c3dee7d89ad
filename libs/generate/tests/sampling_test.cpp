// SPDX-License-Identifier: Apache-2.0
#include "veomni/generate/sampling.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <vector>

#include "veomni/base/rng.h"

namespace veomni::generate {
namespace {

const std::vector<float> kLogits = {0.0f, std::log(2.0f), std::log(5.0f),
                                    std::log(2.0f)};  // shares .1 .2 .5 .2

std::map<int32_t, double> shares(const SamplingOptions& options, int draws = 20000) {
  const KeyedRng rng(1, "test");
  std::map<int32_t, double> counts;
  for (int i = 0; i < draws; ++i)
    counts[sample_token(kLogits, options, rng.uniform_at(i))] += 1.0 / draws;
  return counts;
}

TEST(SampleToken, GreedyTakesTheLikeliest) { EXPECT_EQ(sample_token(kLogits, {}, 0.9), 2); }

TEST(SampleToken, GreedyTakesTheLowestIdAmongEquals) {
  EXPECT_EQ(sample_token(std::vector<float>{1, 3, 3, 2}, {}, 0.9), 1);
}

// Standard error of a share is at most sqrt(.25 / 20000) = 0.0035; 5 of them.
constexpr double kSlack = 0.018;

TEST(SampleToken, TemperatureOneIsTheDistribution) {
  auto got = shares({.temperature = 1.0});
  EXPECT_NEAR(got[0], 0.1, kSlack);
  EXPECT_NEAR(got[1], 0.2, kSlack);
  EXPECT_NEAR(got[2], 0.5, kSlack);
}

TEST(SampleToken, TemperatureHalfSquares) {
  auto got = shares({.temperature = 0.5});  // 1, 4, 25, 4 of 34
  EXPECT_NEAR(got[2], 25.0 / 34, kSlack);
}

TEST(SampleToken, TopPKeepsTheShortestPrefixThatReachesIt) {
  auto got = shares({.temperature = 1.0, .top_p = 0.6});  // .5 + .2, the earlier of the equal two
  EXPECT_NEAR(got[2], 5.0 / 7, kSlack);
  EXPECT_NEAR(got[1], 2.0 / 7, kSlack);
  EXPECT_EQ(got.count(0) + got.count(3), 0u);
}

TEST(SampleToken, TopPZeroStillLeavesOne) {
  EXPECT_EQ(shares({.temperature = 1.0, .top_p = 0.0}).size(), 1u);
}

TEST(SampleToken, TopK) {
  auto got = shares({.temperature = 1.0, .top_k = 1});
  EXPECT_EQ(got.size(), 1u);
  EXPECT_EQ(got.count(2), 1u);
}

}  // namespace
}  // namespace veomni::generate
