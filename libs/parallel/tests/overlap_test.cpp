// SPDX-License-Identifier: Apache-2.0
// What begins when, and what is waited for when; which calls are saved while micro-batches accumulate.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chain_model.h"
#include "recording_communicator.h"
#include "toy_run.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::parallel {
namespace {

using namespace toy;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

constexpr int64_t kChainWidth = 5;

/// A sharded chain of three links whose calls are written down.
struct Recorded {
  Log log;
  std::shared_ptr<RecordingCommunicator> group;
  Chain chain{kChainWidth, 3, {.device = torch::kMeta, .dtype = torch::kDouble}};
  std::shared_ptr<StepState> state;

  explicit Recorded(Communicator& world, const FullyShardOptions& options = {})
      : group(std::make_shared<RecordingCommunicator>(world.shared_from_this(), log)) {
    state = fully_shard(chain, ShardGroups::over(group), options);
    nn::materialize(chain, torch::kCPU, nn::Masters::kTrainable);
    nn::initialize(chain, 3);
    chain.note = [this](const std::string& what) { log.push_back(what); };
  }
  torch::Tensor loss(const std::vector<int>& order = {}) {
    return chain.loss(torch::ones({2, kChainWidth}, torch::kDouble), order);
  }
  const ShardStats& stats() const { return stats_of(*state); }
};

TEST(Prefetch, TheNextUnitIsOnItsWayWhileOneRuns) {
  run_ranks(2, [](Communicator& world) {
    Recorded run(world);
    run.loss().backward();
    EXPECT_EQ(run.stats().num_prefetches, 0) << "the first pass learns";
    run.log.clear();
    auto loss = run.loss();
    // Calls 0 to 10 were the first pass's: the root's gather, 3 + 3 gathers, 3 + 1 reductions.
    EXPECT_THAT(run.log, ElementsAre("gather 11", "waited 11", "gather 12",    // root; link 0 ahead
                                     "waited 12", "gather 13", "run links.0",  // link 1 ahead
                                     "waited 13", "gather 14", "run links.1",  //
                                     "waited 14", "run links.2"));
    run.log.clear();
    loss.backward();
    EXPECT_THAT(run.log, ElementsAre("gather 15", "waited 15", "gather 16",  // link 2; link 1 ahead
                                     "reduce 17",                            // link 2's gradients
                                     "waited 16", "gather 18",               // link 1; link 0 ahead
                                     "waited 17", "reduce 19",               // late
                                     "waited 18",                            //
                                     "waited 19", "reduce 20",               //
                                     "waited 20", "reduce 21", "waited 21"));
    EXPECT_EQ(run.stats().num_prefetches, 5) << "all but the root's and the last link's backward";
    EXPECT_EQ(run.stats().gathered_bytes, 0);
  });
}

TEST(Prefetch, NothingIsAheadWhereItIsSwitchedOff) {
  run_ranks(2, [](Communicator& world) {
    Recorded run(world, {.prefetch = false});
    for (int i = 0; i < 3; ++i) run.loss().backward();
    EXPECT_EQ(run.stats().num_prefetches, 0);
  });
}

TEST(Prefetch, APassInAnotherOrderGathersAsItGoes) {
  run_ranks(3, [](Communicator& world) {
    Recorded run(world);
    Chain whole(kChainWidth, 3, {.dtype = torch::kDouble});
    nn::materialize(whole, torch::kCPU, nn::Masters::kTrainable);
    nn::initialize(whole, 3);
    const auto x = torch::ones({2, kChainWidth}, torch::kDouble);
    for (const std::vector<int>& order :
         {std::vector<int>{0, 1, 2}, {0, 2, 1}, {2}, {1, 1, 0}, {0, 1, 2}, {0, 1, 2}}) {
      run.loss(order).backward();
      EXPECT_EQ(run.stats().gathered_bytes, 0);
      for (int r = 0; r < world.size(); ++r) whole.loss(x, order).backward();
      const auto want = whole.named_parameters();
      auto got = run.chain.named_parameters();
      for (size_t i = 0; i < got.size(); ++i) {
        if (!want[i].second.grad().defined()) continue;
        const auto full = full_gradient(got[i].second, world);
        EXPECT_TRUE(torch::allclose(full, want[i].second.grad(), 1e-10, 1e-12)) << got[i].first;
      }
      EXPECT_LE(run.stats().peak_gathered_bytes, (6 + 2 * (2 * 30 + 6)) * 8)
          << "the root, one link, one ahead";
    }
    EXPECT_GT(run.stats().num_prefetches, 0);
  });
}

TEST(Prefetch, EvaluationBetweenStepsLearnsItsOwnOrder) {
  run_ranks(2, [](Communicator& world) {
    Recorded run(world);
    for (int step = 0; step < 3; ++step) {
      run.loss().backward();
      torch::NoGradGuard no_grad;
      run.loss();
      EXPECT_EQ(run.stats().gathered_bytes, 0);
    }
    EXPECT_EQ(run.stats().num_prefetches, 2 * (5 + 3)) << "both kinds of pass, from the second on";
  });
}

TEST(Prefetch, WhatWasStartedForAPassThatEndedIsNotUsedInTheNext) {
  run_ranks(2, [](Communicator& world) {
    Chain chain(kChainWidth, 3, {.device = torch::kMeta, .dtype = torch::kDouble});
    // The root's gather is none, so that a pass begins with a link's.
    ParallelOptions options = {.defaults = {.strategy = "replicate"}};
    options.modules["links.*"].strategy = "fsdp2";
    const DeviceMesh mesh(world.shared_from_this(), {});
    const auto parallel = parallelize(chain, mesh, options);
    nn::materialize(chain, torch::kCPU, nn::Masters::kTrainable);
    nn::initialize(chain, 3);
    torch::NoGradGuard no_grad;
    const auto loss = [&](const std::vector<int>& order) {
      return chain.loss(torch::ones({1, kChainWidth}, torch::kDouble), order).item<double>();
    };
    loss({0, 1, 0});
    const double before = loss({0, 1, 0});
    loss({0, 1});
    EXPECT_GT(stats_of(*parallel.state).gathered_bytes, 0) << "link 0 was started again";
    for (auto& [path, parameter] : chain.named_parameters()) parameter.local().mul_(2);
    const double after = loss({0, 1, 0});
    EXPECT_NE(after, before);
    EXPECT_EQ(loss({0, 1, 0}), after);
    EXPECT_EQ(stats_of(*parallel.state).gathered_bytes, 0);
  });
}

TEST(Flat, OneBufferAUnit) {
  run_ranks(2, [](Communicator& world) {
    Recorded rows(world), flat(world, {.layout = Layout::kFlat});
    rows.loss().backward();
    flat.loss().backward();
    EXPECT_EQ(rows.log.size(), flat.log.size());
    EXPECT_EQ(rows.group->tensors, 2u + 3 * 3 * 3) << "each parameter of its own";
    EXPECT_EQ(flat.group->tensors, 2u + 3 * 3);
  });
}

TEST(Defer, ReplicasSumOnceAStep) {
  for (bool defer : {true, false}) {
    const Case c{
        .ranks = 4, .strategy = "hsdp", .accumulation = 3, .dp_replicate = 2, .defer = defer};
    run_ranks(c.ranks, [&](Communicator& world) {
      Spread spread(world, c);
      train_micro_batches(spread.model, c, world.rank(), world.size(), spread.parallel.state);
      // Parameters with rows: 2 of the root, table, 2 of pixels, 5 of each layer, the adapter, which is
      // used twice.
      const int64_t parameters = 2 + 1 + 2 + 3 * 5 + 1;
      EXPECT_EQ(spread.stats().num_replica_sums, (parameters + 1) * (defer ? 1 : 3));
    });
  }
}

TEST(Defer, DdpSumsOnlyTheLastMicroBatch) {
  Case c{.ranks = 2, .strategy = "ddp", .accumulation = 3};
  c.more.defaults.bucket_mib = 25;
  run_ranks(c.ranks, [&](Communicator& world) {
    Spread spread(world, c);
    train_micro_batches(spread.model, c, world.rank(), world.size(), spread.parallel.state);
    EXPECT_EQ(spread.stats().num_buckets, 1) << "a small model fits one";
    EXPECT_EQ(spread.stats().num_reduces, 0);
    EXPECT_EQ(spread.stats().peak_gathered_bytes, 0);
  });
  c.more.defaults.bucket_mib = 1.0 / (1 << 20);
  run_ranks(c.ranks, [&](Communicator& world) {
    Spread spread(world, c);
    train_micro_batches(spread.model, c, world.rank(), world.size(), spread.parallel.state);
    EXPECT_EQ(spread.stats().num_buckets, 2 + 1 + 3 + 3 * 5 + 1) << "one a parameter";
  });
}

TEST(Defer, BucketsLeaveWhileBackwardGoesOn) {
  run_ranks(2, [](Communicator& world) {
    Recorded run(world, {.layout = Layout::kWhole, .bucketed = true, .bucket_bytes = 400});
    run.loss().backward();
    // A link has 55 doubles, 440 bytes: it fills a bucket, which leaves before the next link goes
    // backward. The root's is the rest.
    EXPECT_THAT(run.log, ElementsAreArray({"run links.0", "run links.1", "run links.2", "sum 0",
                                           "sum 1", "sum 2", "sum 3", "waited 0", "waited 1",
                                           "waited 2", "waited 3"}));
  });
}

TEST(Defer, UnitsStayGatheredUntilTheLastWhereAsked) {
  for (bool reshard : {true, false}) {
    Case c{.ranks = 2, .reshard = false, .accumulation = 3};
    c.more.defaults.reshard_after_backward = reshard;
    const auto want = reference(c);
    expect_equal(parallel_gradients(c), want, 1e-10, c);
    run_ranks(c.ranks, [&](Communicator& world) {
      Spread spread(world, c);
      for (int step = 1; step <= 2; ++step) {
        train_micro_batches(spread.model, c, world.rank(), world.size(), spread.parallel.state);
        EXPECT_EQ(spread.stats().num_gathers, step * 10 * (reshard ? 3 : 1));
        EXPECT_EQ(spread.stats().gathered_bytes, 0) << "after the last";
      }
    });
  }
}

TEST(Defer, OnlyOneAtATime) {
  auto state = make_step_state();
  DeferGradientSync first(state);
  EXPECT_THROW(DeferGradientSync{state}, Error);
}

}  // namespace
}  // namespace veomni::parallel
