// SPDX-License-Identifier: Apache-2.0
#include "agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "veomni/base/error.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::train {
namespace {

TEST(Agreement, TheSameJobPasses) {
  run_ranks(3, [](Communicator& world) { check_agreement(world, "a recipe"); });
}

TEST(Agreement, AnotherJobIsRefusedOnEveryRank) {
  std::atomic<int> refused = 0;
  run_ranks(4, [&](Communicator& world) {
    try {
      check_agreement(world, world.rank() == 2 ? "b" : "a");
    } catch (const ConfigError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("rank 2 runs another job than rank 0"));
      ++refused;
    }
  });
  EXPECT_EQ(refused, 4);
}

TEST(Agreement, ManyRanksAreCounted) {
  run_ranks(12, [&](Communicator& world) {
    try {
      check_agreement(world, world.rank() == 0 ? "a" : "b");
      ADD_FAILURE();
    } catch (const ConfigError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("ranks 1, 2, 3, 4, 5, 6, 7, 8 and 3 more run"));
    }
  });
}

TEST(Agreement, AProgramHasABuildId) { EXPECT_GE(build_id().size(), 16); }

}  // namespace
}  // namespace veomni::train
