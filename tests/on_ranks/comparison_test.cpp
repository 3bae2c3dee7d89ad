// SPDX-License-Identifier: Apache-2.0
// What holds the other tests of this program up: ranks are what the launcher says, and a comparison can fail.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "gradients.h"
#include "on_ranks.h"

namespace veomni {
namespace {

using testing::HasSubstr;

TEST(OnRanks, TheWorldIsTheLaunchers) {
  const int ranks = on_ranks::rank_counts({4})[0];
  on_ranks::run(ranks, [&](Communicator& comm) {
    auto seen = torch::empty({ranks}, torch::kLong);
    comm.all_gather(seen, torch::full({1}, comm.rank(), torch::kLong))->wait();
    EXPECT_TRUE(torch::equal(seen, torch::arange(ranks)));
    EXPECT_GT(ranks, 1);
  });
}

TEST(Comparison, NoticesOneWrongElement) {
  const Gradients want = {{"large", torch::ones({100, 100}, torch::kDouble)},
                          {"small", torch::ones({10}, torch::kDouble)}};
  EXPECT_EQ(differences(want, want, 0), "");
  Gradients wrong = want;
  wrong["small"] = want.at("small").clone();
  wrong["small"][3] += 1e-4;  // 3e-5 of its tensor
  EXPECT_THAT(differences(wrong, want, 1e-5), HasSubstr("small: error"));
  EXPECT_EQ(differences(wrong, want, 1e-4), "");
  EXPECT_EQ(different_bits(wrong, want), "small\n");
}

TEST(Comparison, NoticesWhatIsAbsentAndWhatIsNoNumber) {
  const Gradients want = {{"a", torch::ones({2})}, {"b", torch::zeros({2})}};
  EXPECT_EQ(differences({{"a", torch::ones({2})}}, want, 1), "b is missing\n");
  EXPECT_EQ(differences({{"a", torch::ones({2})}, {"b", torch::Tensor()}}, want, 1),
            "b is missing\n");
  EXPECT_THAT(differences({{"a", torch::full({2}, NAN)}, {"b", torch::zeros({2})}}, want, 1),
              HasSubstr("a: error inf"));
  EXPECT_THAT(differences({{"a", torch::ones({2})}, {"b", torch::full({2}, 1e-30)}}, want, 1e-5),
              HasSubstr("b: error inf"))
      << "an exact zero must be exact";
  EXPECT_THAT(differences({}, {}, 1), HasSubstr("nothing"));
}

// For tests/launch/test_layouts.py, which asks for them: one rank's failure must be the job's.
class WrongRank : public testing::TestWithParam<std::string> {};

TEST_P(WrongRank, FailsTheJob) {
  const int ranks = on_ranks::rank_counts({4})[0];
  on_ranks::run(ranks, [&](Communicator& comm) {
    const bool wrong = comm.rank() == ranks - 1;
    VEOMNI_CHECK(!wrong || GetParam() != "throws", "thrown by the last rank");
    EXPECT_FALSE(wrong) << "found by the last rank";
    comm.barrier()->wait();
  });
}

std::vector<std::string> asked_for() {
  const char* how = std::getenv("VEOMNI_TEST_WRONG_RANK");
  if (!how) return {};
  return {how};
}
INSTANTIATE_TEST_SUITE_P(AskedFor, WrongRank, testing::ValuesIn(asked_for()));
// Not asked for, there is none, also where no filter leaves them out.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(WrongRank);

}  // namespace
}  // namespace veomni
