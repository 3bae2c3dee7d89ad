// SPDX-License-Identifier: Apache-2.0
// Steps of AdamW with clipping under every strategy end at one rank's weights.
#include <gtest/gtest.h>

#include "on_ranks.h"
#include "strategy_job.h"

namespace veomni::train {
namespace {

struct Outcome {
  Gradients masters;
  std::vector<double> norms;
};

Outcome run(const Layout& layout, torch::ScalarType dtype, int steps) {
  Outcome outcome;
  on_ranks::run(layout.ranks, [&](Communicator& comm) {
    Job job(layout, dtype, comm);
    for (int i = 0; i < steps; ++i) job.step();
    auto masters = job.masters();
    if (on_ranks::keeps(comm)) outcome = {std::move(masters), job.norms};
  });
  return outcome;
}

class StrategySteps : public testing::TestWithParam<Layout> {};

void expect_same_outcome(const Outcome& got, const Outcome& want, double tolerance) {
  EXPECT_EQ(differences(got.masters, want.masters, tolerance), "");
  ASSERT_EQ(got.norms.size(), want.norms.size());
  for (size_t i = 0; i < want.norms.size(); ++i)
    EXPECT_NEAR(got.norms[i], want.norms[i], 10 * tolerance * want.norms[i]) << "step " << i;
}

TEST_P(StrategySteps, TwentyInFp32EndAtOneRanksWeights) {
  static const Outcome want = run(kOne, torch::kFloat, 20);
  expect_same_outcome(run(GetParam(), torch::kFloat, 20), want, 1e-5);
}

TEST_P(StrategySteps, AHundredInFp64EndAtOneRanksWeights) {
  static const Outcome want = run(kOne, torch::kDouble, 100);
  expect_same_outcome(run(GetParam(), torch::kDouble, 100), want, 1e-8);
}

TEST_P(StrategySteps, TheSameLayoutTwiceIsBitEqual) {
  const auto a = run(GetParam(), torch::kFloat, 3), b = run(GetParam(), torch::kFloat, 3);
  EXPECT_EQ(a.norms, b.norms);
  EXPECT_EQ(different_bits(a.masters, b.masters), "");
}

std::vector<Layout> all_layouts() {
  std::vector<Layout> all;
  for (int ranks : on_ranks::rank_counts({2, 3, 4})) {
    for (const auto& layout : layouts_of(ranks)) all.push_back(layout);
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Qwen3, StrategySteps, testing::ValuesIn(all_layouts()),
                         [](const auto& info) {
                           return info.param.name + "_ranks" + std::to_string(info.param.ranks);
                         });

}  // namespace
}  // namespace veomni::train
