// SPDX-License-Identifier: Apache-2.0
// Every strategy gives one rank's gradients, whatever is tied, frozen, missing, accumulated or
// recomputed.
#include <gtest/gtest.h>

#include "background_communicator.h"
#include "toy_run.h"

namespace veomni::parallel {
namespace {

using namespace toy;

struct Strategy {
  const char* name;
  const char* word;
  int replicas;  ///< 0: as many as ranks
};
const std::vector<Strategy> kStrategies = {{"fsdp2", "fsdp2", 1},        {"fsdp1", "fsdp1", 1},
                                           {"hsdp", "hsdp", 2},          {"hsdp_flat", "fsdp1", 2},
                                           {"replicas", "fsdp2", 0},     {"ddp", "ddp", 2},
                                           {"replicate", "replicate", 1}};

class Strategies : public testing::TestWithParam<Strategy> {
 protected:
  /// Mesh of `ranks`: an odd number has no two replicas.
  static Case with_mesh(Case c) {
    const auto& strategy = GetParam();
    c.strategy = strategy.word;
    const int replicas = strategy.replicas ? strategy.replicas : c.ranks;
    c.dp_replicate = c.ranks % replicas == 0 ? replicas : 1;
    c.more.defaults.bucket_mib = 512.0 / (1 << 20);  // several buckets of this small model
    return c;
  }
};

TEST_P(Strategies, EveryGradientEqualsOneRanks) {
  const std::vector<std::string> encoder = {"table.*", "pixels.*"};
  for (bool tied : {true, false}) {
    for (bool frozen : {false, true}) {
      for (int64_t pixels_until : {int64_t{kSamples}, int64_t{1}}) {
        for (int accumulation : {1, 3}) {
          for (auto dtype : {torch::kDouble, torch::kFloat}) {
            Case c{.dtype = dtype, .accumulation = accumulation, .tied = tied};
            c.pixels_until = pixels_until;
            if (frozen) c.frozen = encoder;
            const auto want = reference(c);
            for (int ranks : {2, 3, 4}) {
              for (const char* recompute : {"none", "layer"}) {
                c.ranks = ranks;
                c.recompute = {recompute};
                const Case spread = with_mesh(c);
                expect_equal(parallel_gradients(spread), want,
                             dtype == torch::kDouble ? 1e-10 : 1e-5, spread);
              }
            }
          }
        }
      }
    }
  }
}

TEST_P(Strategies, EveryPartMayBeFrozen) {
  const std::vector<std::vector<std::string>> frozen = {
      {"layers.1.*"},
      {"embedding", "scale", "layers.0.mlp.*", "adapter.weight"},
      {"embedding", "scale", "table.*", "layers.*", "adapter.*", "pixels.weight", "pixels.bias"},
      {"layers.2.mix", "pixels.gate"}};
  for (const auto& patterns : frozen) {
    Case c{.accumulation = 2, .frozen = patterns};
    const auto want = reference(c);
    for (int ranks : {2, 4}) {
      c.ranks = ranks;
      const Case spread = with_mesh(c);
      expect_equal(parallel_gradients(spread), want, 1e-10, spread);
    }
  }
}

TEST_P(Strategies, SumsEveryPassWhenNobodySaysWhichIsLast) {
  const Case c = with_mesh({.ranks = 4, .accumulation = 3, .defer = false});
  expect_equal(parallel_gradients(c), reference(c), 1e-10, c);
}

TEST_P(Strategies, TheSameLayoutTwiceIsBitEqual) {
  const Case c = with_mesh({.ranks = 4, .dtype = torch::kFloat, .accumulation = 3});
  const auto first = parallel_gradients(c), second = parallel_gradients(c);
  for (const auto& [name, gradient] : first)
    EXPECT_TRUE(torch::equal(gradient, second.at(name))) << name;
}

TEST_P(Strategies, GoOverSeveralSteps) {
  // The second step starts gathers ahead, in the order of the first.
  const Case c = with_mesh({.ranks = 4, .accumulation = 2});
  const auto want = reference(c);
  run_ranks(c.ranks, [&](Communicator& world) {
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

TEST_P(Strategies, HoldWhenBytesMoveInTheBackground) {
  for (const char* recompute : {"none", "layer", "*"}) {
    for (int ranks : {2, 4}) {
      const Case c = with_mesh({.ranks = ranks, .recompute = {recompute}, .accumulation = 3});
      const auto want = reference(c);
      run_ranks(c.ranks, [&](Communicator& rank) {
        auto world = std::make_shared<BackgroundCommunicator>(rank.shared_from_this(),
                                                              std::make_shared<Background>());
        Spread spread(*world, c);
        for (int step = 0; step < 3; ++step) {
          for (auto& [path, parameter] : spread.model.named_parameters()) parameter.clear_grad();
          train_micro_batches(spread.model, c, world->rank(), world->size(), spread.parallel.state);
          Gradients got;
          for (auto& [path, parameter] : spread.model.named_parameters())
            got[path] = full_gradient(parameter, *spread.parallel.group);
          expect_equal(got, want, 1e-10, c);
        }
        world->barrier()->wait();
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Toy, Strategies, testing::ValuesIn(kStrategies),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Mixed, ModulesEachTheirOwnWay) {
  for (int accumulation : {1, 3}) {
    for (const char* recompute : {"none", "layer"}) {
      Case c{.ranks = 4, .recompute = {recompute}, .accumulation = accumulation};
      c.pixels_until = 2;
      c.more.modules["table"].strategy = "replicate";
      c.more.modules["pixels"].strategy = "fsdp1";
      c.more.modules["adapter"].strategy = "ddp";
      c.more.modules["layers.0"].mesh = ModuleMesh{.dp_replicate = 2};
      c.more.modules["layers.1"].strategy = "fsdp1";
      c.more.modules["layers.1"].mesh = ModuleMesh{.dp_replicate = 2};
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
  for (int rank = 0; rank < 4; ++rank) whole.loss(rows(rank)).backward();
  for (const char* strategy : {"fsdp2", "fsdp1", "hsdp", "ddp", "replicate"}) {
    run_ranks(4, [&](Communicator& world) {
      TwoDtypes unit(torch::kMeta);
      const DeviceMesh mesh(world.shared_from_this(), {.dp_replicate = 2});
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
    Case c{.ranks = 4, .dtype = torch::kBFloat16, .strategy = strategy, .dp_replicate = 2};
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
