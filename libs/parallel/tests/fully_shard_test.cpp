// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/fully_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "toy_run.h"
#include "veomni/comm/local.h"
#include "veomni/comm/run_ranks.h"
#include "veomni/parallel/plan.h"

namespace veomni::parallel {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

using namespace toy;

const std::vector<std::vector<std::string>> kFrozen = {
    {},                       // all trains
    {"table.*", "pixels.*"},  // frozen first units: nothing to do in their backward
    {"layers.1.*"},           // frozen in the middle: gradients pass through
    {"embedding", "scale", "layers.0.mlp.*",
     "adapter.weight"},  // a frozen root with trainable units inside
    {"embedding", "scale", "table.*", "layers.*", "adapter.*", "pixels.weight",
     "pixels.bias"},  // only one scalar trains
};

void check_against_reference(torch::ScalarType dtype, double tolerance) {
  for (const auto& frozen : kFrozen) {
    for (int accumulation : {1, 3}) {
      const auto want = reference({.dtype = dtype, .accumulation = accumulation, .frozen = frozen});
      for (int ranks = 1; ranks <= 4; ++ranks) {
        for (const auto& recompute :
             std::vector<std::vector<std::string>>{{"none"}, {"layer"}, {"*"}}) {
          for (bool reshard : {true, false}) {
            const Case c = {.ranks = ranks,
                            .dtype = dtype,
                            .reshard = reshard,
                            .recompute = recompute,
                            .accumulation = accumulation,
                            .frozen = frozen};
            expect_equal(parallel_gradients(c), want, tolerance, c);
          }
        }
      }
    }
  }
}

TEST(FullyShard, EveryGradientEqualsOneRanksInFp64) {
  check_against_reference(torch::kDouble, 1e-10);
}
TEST(FullyShard, EveryGradientEqualsOneRanksInFp32) {
  check_against_reference(torch::kFloat, 1e-5);
}

TEST(FullyShard, RanksWithoutTokensTakePart) {
  for (const char* strategy : {"fsdp2", "replicate"}) {
    for (const auto& recompute : std::vector<std::vector<std::string>>{{"none"}, {"layer"}}) {
      const Case c = {.ranks = 4,
                      .strategy = strategy,
                      .recompute = recompute,
                      .accumulation = 2,
                      .all_on_rank_0 = true};
      expect_equal(parallel_gradients(c), reference(c), 1e-10, c);
    }
  }
}

TEST(FullyShard, ReplicatedUnitsSumTheirGradients) {
  for (const auto& frozen : kFrozen) {
    for (int ranks : {1, 2, 4}) {
      const Case c = {.ranks = ranks, .strategy = "replicate", .accumulation = 3, .frozen = frozen};
      expect_equal(parallel_gradients(c), reference(c), 1e-10, c);
    }
  }
}

TEST(FullyShard, SameLayoutTwiceIsBitEqual) {
  const Case c = {.ranks = 3, .dtype = torch::kFloat, .recompute = {"layer"}, .accumulation = 3};
  const auto first = parallel_gradients(c), second = parallel_gradients(c);
  for (const auto& [name, gradient] : first)
    EXPECT_TRUE(torch::equal(gradient, second.at(name))) << name;
}

/// A sharded model ready to run on one rank.
struct Sharded {
  ToyModel model;
  std::shared_ptr<StepState> state;

  explicit Sharded(Communicator& comm, const FullyShardOptions& options = {},
                   torch::ScalarType dtype = torch::kFloat)
      : model({.device = torch::kMeta, .dtype = dtype}) {
    state = fully_shard(model, ShardGroups::over(comm.shared_from_this()), options);
    nn::materialize(model, torch::kCPU, nn::Masters::kTrainable);
    nn::initialize(model, 7);
  }
  const ShardStats& stats() const { return stats_of(*state); }
  torch::Tensor loss(Communicator& comm) {
    const auto slice = io::shard_rows(kSamples, comm.rank(), comm.size());
    return model.loss(toy::make_batch(0, slice.begin, slice.begin + slice.length,
                                      model.named_parameters()[0].second.dtype()),
                      12);
  }
};

int64_t padded_bytes(nn::Unit& unit, int world) {
  int64_t bytes = 0;
  for (const auto& parameter : unit.unit_parameters()) {
    if (parameter.shape().empty()) continue;
    const int64_t rows = parameter.shape()[0], chunk = (rows + world - 1) / world;
    bytes += chunk * world * (parameter.numel() / rows) * c10::elementSize(parameter.dtype());
  }
  return bytes;
}

/// Of a unit and those inside it: what its forward or backward needs at once.
int64_t in_flight_bytes(nn::Unit& unit, int world) {
  int64_t bytes = 0;
  for (auto& [path, inner] : nn::find_modules<nn::Unit>(unit)) bytes += padded_bytes(*inner, world);
  return bytes;
}

TEST(FullyShard, MemoryIsTheRootAndTheUnitsInFlight) {
  for (int ranks : {2, 3, 4}) {
    run_ranks(ranks, [](Communicator& comm) {
      Sharded sharded(comm);
      const int world = comm.size();
      int64_t largest = 0, all = 0;
      for (auto& [path, unit] : nn::find_modules<nn::Unit>(sharded.model)) {
        all += padded_bytes(*unit, world);
        if (!path.empty()) largest = std::max(largest, in_flight_bytes(*unit, world));
      }
      auto loss = sharded.loss(comm);
      EXPECT_EQ(sharded.stats().gathered_bytes, padded_bytes(sharded.model, world))
          << "the root alone stays";
      loss.backward();
      EXPECT_EQ(sharded.stats().gathered_bytes, 0);
      EXPECT_EQ(sharded.stats().peak_gathered_bytes, padded_bytes(sharded.model, world) + largest);
      EXPECT_LT(sharded.stats().peak_gathered_bytes, all);
      for (auto& [path, parameter] : sharded.model.named_parameters()) {
        if (parameter.shape().empty()) continue;
        EXPECT_EQ(parameter.value().storage().nbytes(), 0u) << path;
        EXPECT_FALSE(parameter.value().grad().defined()) << path;
        EXPECT_EQ(parameter.local().sizes(), parameter.shard().local_shape());
        EXPECT_EQ(parameter.grad().sizes(), parameter.local().sizes());
      }
    });
  }
}

TEST(FullyShard, GathersAreCounted) {
  run_ranks(2, [](Communicator& comm) {
    const int num_units = 4 + 2 * 3, nested_uses = num_units - 1 + 1;  // the adapter is used twice
    Sharded resharding(comm);
    resharding.loss(comm).backward();
    EXPECT_EQ(resharding.stats().num_gathers, 1 + 2 * nested_uses)
        << "the root once, every other use twice";
    EXPECT_EQ(resharding.stats().num_reduces, 1 + nested_uses);
    Sharded keeping(comm, {.reshard_after_forward = false});
    keeping.loss(comm).backward();
    // The adapter's first use is still held at its second, and at the second's backward.
    EXPECT_EQ(keeping.stats().num_gathers, num_units);
    EXPECT_EQ(keeping.stats().gathered_bytes, 0);
  });
}

TEST(FullyShard, WithoutBackwardNothingStaysGathered) {
  run_ranks(3, [](Communicator& comm) {
    Sharded sharded(comm, {.reshard_after_forward = false});
    const auto loss = [&] { return sharded.loss(comm).item<float>(); };
    float with_grad, without;
    {
      torch::NoGradGuard no_grad;
      without = loss();
      EXPECT_EQ(sharded.stats().gathered_bytes, 0) << "under no_grad";
    }
    with_grad = loss();
    EXPECT_EQ(sharded.stats().gathered_bytes, 0) << "a graph that was dropped";
    EXPECT_EQ(with_grad, without);
  });
}

TEST(FullyShard, OneRankCopiesNothing) {
  auto comm = make_single_communicator();
  Sharded sharded(*comm);
  std::map<std::string, const void*> before;
  for (auto& [path, parameter] : sharded.model.named_parameters()) {
    EXPECT_TRUE(parameter.value().is_alias_of(parameter.local())) << path;
    before[path] = parameter.value().data_ptr();
  }
  sharded.loss(*comm).backward();
  for (auto& [path, parameter] : sharded.model.named_parameters()) {
    EXPECT_EQ(parameter.value().data_ptr(), before[path]) << path;
    EXPECT_TRUE(parameter.grad().defined()) << path;
    EXPECT_TRUE(parameter.grad().is_same(parameter.value().grad())) << path;
  }
  EXPECT_EQ(sharded.stats().peak_gathered_bytes, 0);
  EXPECT_EQ(sharded.stats().num_reduces, 0);
}

TEST(FullyShard, FullMasterGivesEveryRankTheWhole) {
  ToyModel whole({.device = torch::kCPU});
  nn::materialize(whole, torch::kCPU, nn::Masters::kTrainable);
  nn::initialize(whole, 7);
  run_ranks(4, [&](Communicator& comm) {
    Sharded sharded(comm);
    const auto want = whole.named_parameters();
    const auto got = sharded.model.named_parameters();
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_TRUE(torch::equal(full_master(got[i].second, comm), want[i].second.master()))
          << want[i].first;
      EXPECT_TRUE(
          torch::equal(full_gradient(got[i].second, comm), torch::zeros(want[i].second.shape())));
    }
  });
}

TEST(FullyShard, NarrowParametersHaveWideGradients) {
  for (int ranks : {1, 2}) {
    run_ranks(ranks, [](Communicator& comm) {
      for (auto reduce : {torch::ScalarType::Undefined, torch::kBFloat16}) {
        Sharded sharded(comm, {.reduce_dtype = reduce}, torch::kBFloat16);
        for (int micro = 0; micro < 2; ++micro) sharded.loss(comm).backward();
        for (auto& [path, parameter] : sharded.model.named_parameters()) {
          EXPECT_EQ(parameter.value().scalar_type(), torch::kBFloat16) << path;
          EXPECT_EQ(parameter.local().scalar_type(), torch::kBFloat16) << path;
          EXPECT_EQ(parameter.master().scalar_type(), torch::kFloat) << path;
          EXPECT_EQ(parameter.grad().scalar_type(), torch::kFloat) << path;
        }
      }
    });
  }
}

TEST(FullyShard, AnExceptionOnOneRankEndsAllWithIt) {
  for (int bad_rank : {0, 2}) {
    const auto start = std::chrono::steady_clock::now();
    try {
      run_ranks(3, [&](Communicator& comm) {
        Sharded sharded(comm);
        sharded.loss(comm).backward();
        sharded.model.fail_in_forward = comm.rank() == bad_rank;
        sharded.loss(comm).backward();
      });
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()), detail::concat("[rank ", bad_rank, "/3] a layer failed"));
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, 30s) << "no time-out was waited for";
  }
}

class Loose : public nn::Module {
 public:
  Loose()
      : weight_(
            parameter("weight", nn::Parameter({2}, {.device = torch::kMeta}, nn::Init::zeros()))) {}

 private:
  nn::Parameter weight_;
};

TEST(FullyShard, RefusesWhatItCannotGather) {
  auto comm = make_single_communicator();
  Loose loose;
  EXPECT_THROW(fully_shard(loose, ShardGroups::over(comm)), ConfigError);
  run_ranks(2, [](Communicator& world) {
    ToyModel has_memory({.device = torch::kCPU});
    EXPECT_THROW(fully_shard(has_memory, ShardGroups::over(world.shared_from_this())), Error);
    ToyModel on_meta({.device = torch::kMeta});
    fully_shard(on_meta, ShardGroups::over(world.shared_from_this()));
    EXPECT_THROW(fully_shard(on_meta, ShardGroups::over(world.shared_from_this())), Error)
        << "twice";
    try {
      on_meta.loss(toy::make_batch(0, 0, 1, torch::kFloat), 1);
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("call materialize() before the first forward"));
    }
  });
}

}  // namespace
}  // namespace veomni::parallel
