// SPDX-License-Identifier: Apache-2.0
// Every strategy gives one rank's gradients, whatever is tied, frozen, missing, accumulated or
// recomputed.
#include <gtest/gtest.h>

#include <map>

#include "strategies.h"

namespace veomni::parallel {
namespace {

using namespace toy;

// The whole matrix, a case a test: strategy x ranks x tied x frozen encoder x pixels on one rank only x accumulation x
// recompute x dtype.
struct Cell {
  Strategy strategy;
  Case spread;
};

std::string name_of(const testing::TestParamInfo<Cell>& info) {
  const Case& c = info.param.spread;
  return detail::concat(info.param.strategy.name, "_ranks", c.ranks, c.tied ? "_tied" : "_untied",
                        c.frozen.empty() ? "_trained" : "_frozen",
                        c.pixels_until == kSamples ? "_pixels" : "_missing", "_accumulation",
                        c.accumulation, c.recompute[0] == "layer" ? "_recompute" : "_keep",
                        c.dtype == torch::kDouble ? "_fp64" : "_fp32");
}

std::vector<Cell> matrix() {
  const std::vector<std::string> encoder = {"table.*", "pixels.*"};
  std::vector<Cell> cells;
  for (const auto& strategy : kStrategies) {
    for (int ranks : on_ranks::rank_counts({2, 3, 4})) {
      for (int bits = 0; bits < 64; ++bits) {
        const auto bit = [&](int i) { return (bits >> i & 1) != 0; };
        Case c{.ranks = ranks, .dtype = bit(0) ? torch::kFloat : torch::kDouble};
        c.recompute = {bit(1) ? "layer" : "none"};
        c.accumulation = bit(2) ? 3 : 1;
        c.pixels_until = bit(3) ? 1 : kSamples;
        if (bit(4)) c.frozen = encoder;
        c.tied = bit(5);
        cells.push_back({strategy, spread_by(strategy, c)});
      }
    }
  }
  return cells;
}

/// reference(), computed once for all cells that share it.
const Gradients& reference_of(const Case& c) {
  static std::map<std::string, Gradients> known;
  const auto key = detail::concat(c.dtype, c.accumulation, c.pixels_until, c.tied, join(c.frozen));
  const auto [found, is_new] = known.try_emplace(key);
  if (is_new) found->second = reference(c);
  return found->second;
}

/// 4 ranks, or as many as there are processes.
int ranks() { return on_ranks::rank_counts({4})[0]; }
/// Of a mesh of these ranks: an odd number has no two.
int replicas() { return ranks() % 2 == 0 ? 2 : ranks(); }

class StrategyMatrix : public testing::TestWithParam<Cell> {};

TEST_P(StrategyMatrix, EveryGradientEqualsOneRanks) {
  const Case& c = GetParam().spread;
  expect_equal(parallel_gradients(c), reference_of(c), c.dtype == torch::kDouble ? 1e-10 : 1e-5, c);
}

INSTANTIATE_TEST_SUITE_P(Toy, StrategyMatrix, testing::ValuesIn(matrix()), name_of);

class Strategies : public testing::TestWithParam<Strategy> {
 protected:
  static Case with_mesh(Case c) { return spread_by(GetParam(), std::move(c)); }
};

TEST_P(Strategies, EveryPartMayBeFrozen) {
  const std::vector<std::vector<std::string>> frozen = {
      {"layers.1.*"},
      {"embedding", "scale", "layers.0.mlp.*", "adapter.weight"},
      {"embedding", "scale", "table.*", "layers.*", "adapter.*", "pixels.weight", "pixels.bias"},
      {"layers.2.mix", "pixels.gate"}};
  for (const auto& patterns : frozen) {
    Case c{.accumulation = 2, .frozen = patterns};
    const auto want = reference(c);
    for (int ranks : on_ranks::rank_counts({2, 4})) {
      c.ranks = ranks;
      const Case spread = with_mesh(c);
      expect_equal(parallel_gradients(spread), want, 1e-10, spread);
    }
  }
}

TEST_P(Strategies, SumsEveryPassWhenNobodySaysWhichIsLast) {
  const Case c = with_mesh({.ranks = ranks(), .accumulation = 3, .defer = false});
  expect_equal(parallel_gradients(c), reference(c), 1e-10, c);
}

TEST_P(Strategies, TheSameLayoutTwiceIsBitEqual) {
  const Case c = with_mesh({.ranks = ranks(), .dtype = torch::kFloat, .accumulation = 3});
  const auto first = parallel_gradients(c), second = parallel_gradients(c);
  EXPECT_EQ(different_bits(first, second), "");
}

TEST_P(Strategies, GoOverSeveralSteps) {
  // The second step starts gathers ahead, in the order of the first.
  const Case c = with_mesh({.ranks = ranks(), .accumulation = 2});
  const auto want = reference(c);
  on_ranks::run(c.ranks, [&](Communicator& world) {
    Spread spread(world, c);
    for (int step = 0; step < 3; ++step) {
      for (auto& [path, parameter] : spread.model.named_parameters()) parameter.clear_grad();
      train_micro_batches(spread.model, c, world.rank(), world.size(), spread.parallel.state);
      Gradients got;
      for (auto& [path, parameter] : spread.model.named_parameters())
        got[path] = full_gradient(parameter, *spread.parallel.group);
      expect_equal(got, want, 1e-10, c);
    }
    EXPECT_EQ(spread.stats().gathered_bytes, 0);
  });
}

INSTANTIATE_TEST_SUITE_P(Toy, Strategies, testing::ValuesIn(kStrategies),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Mixed, ModulesEachTheirOwnWay) {
  for (int accumulation : {1, 3}) {
    for (const char* recompute : {"none", "layer"}) {
      Case c{.ranks = ranks(), .recompute = {recompute}, .accumulation = accumulation};
      c.pixels_until = 2;
      c.more.modules["table"].strategy = "replicate";
      c.more.modules["pixels"].strategy = "fsdp1";
      c.more.modules["adapter"].strategy = "ddp";
      c.more.modules["layers.0"].mesh = ModuleMesh{.dp_replicate = replicas()};
      c.more.modules["layers.1"].strategy = "fsdp1";
      c.more.modules["layers.1"].mesh = ModuleMesh{.dp_replicate = replicas()};
      c.more.modules["layers.1.mlp"].strategy = "ddp";
      c.more.modules["layers.2.mlp"].reshard_after_backward = false;
      expect_equal(parallel_gradients(c), reference(c), 1e-10, c);
      // The root whole on every rank: sharded units inside it.
      c.strategy = "ddp";
      c.more.modules["layers.2"].strategy = "fsdp2";
      expect_equal(parallel_gradients(c), reference(c), 1e-10, c);
    }
  }
}

/// Parameters of two dtypes, one of them frozen, in one unit.
class TwoDtypes : public nn::Unit {
 public:
  explicit TwoDtypes(torch::Device device)
      : wide_(parameter("wide", param({5, 3}, {device, torch::kDouble}))),
        narrow_(parameter("narrow", param({3, 3}, {device, torch::kFloat}))),
        fixed_(parameter("fixed", param({7}, {device, torch::kFloat}))),
        last_(parameter("last", param({2, 3}, {device, torch::kDouble}))) {
    fixed_.set_trainable(false);
    nn::assign_names(*this);
  }
  torch::Tensor loss(torch::Tensor x) {
    return run(x, [this](const torch::Tensor& x) {
      const auto y = x.mm(wide_.value()).mm(narrow_.value().to(torch::kDouble)).sin();
      return y.sum() * fixed_.value().sum().to(torch::kDouble) + y.mm(last_.value().t()).sum();
    });
  }

 private:
  nn::Parameter wide_, narrow_, fixed_, last_;
};

TEST(Mixed, DtypesInOneUnit) {
  const auto rows = [](int rank) {
    return torch::arange(10, torch::kDouble).view({2, 5}).add(rank).cos();
  };
  TwoDtypes whole(torch::kCPU);
  nn::materialize(whole, torch::kCPU, nn::Masters::kTrainable);
  nn::initialize(whole, 3);
  for (int rank = 0; rank < ranks(); ++rank) whole.loss(rows(rank)).backward();
  for (const char* strategy : {"fsdp2", "fsdp1", "hsdp", "ddp", "replicate"}) {
    on_ranks::run(ranks(), [&](Communicator& world) {
      TwoDtypes unit(torch::kMeta);
      const DeviceMesh mesh(world.shared_from_this(), {.dp_replicate = replicas()});
      const auto parallel = parallelize(unit, mesh, {.defaults = {.strategy = strategy}});
      nn::materialize(unit, torch::kCPU, nn::Masters::kTrainable);
      nn::initialize(unit, 3);
      unit.loss(rows(world.rank())).backward();
      const auto got = unit.named_parameters();
      const auto want = whole.named_parameters();
      for (size_t i = 0; i < got.size(); ++i) {
        if (!got[i].second.trainable()) continue;
        const bool is_double = got[i].second.dtype() == torch::kDouble;
        EXPECT_TRUE(torch::allclose(full_gradient(got[i].second, *parallel.group),
                                    want[i].second.grad(), is_double ? 1e-10 : 1e-5))
            << strategy << " " << got[i].first;
      }
    });
  }
}

TEST(Mixed, GradientsTravelNarrowAndAreSummedWide) {
  for (const char* strategy : {"fsdp2", "fsdp1", "hsdp", "ddp", "replicate"}) {
    Case c{.ranks = ranks(),
           .dtype = torch::kBFloat16,
           .strategy = strategy,
           .dp_replicate = replicas()};
    const auto wide = parallel_gradients(c);
    c.more.defaults.reduce_dtype = "bfloat16";
    const auto narrow = parallel_gradients(c);
    for (const auto& [name, gradient] : narrow)
      EXPECT_EQ(gradient.scalar_type(), torch::kFloat) << name;
    expect_equal(narrow, wide, 1e-2, c);  // one rounding to 8 bits a rank: 2^-8
    bool differ = false;
    for (const auto& [name, gradient] : narrow) differ |= !torch::equal(gradient, wide.at(name));
    EXPECT_TRUE(differ) << strategy;
  }
}

}  // namespace
}  // namespace veomni::parallel
