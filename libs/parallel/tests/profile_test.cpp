// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/profile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "toy_run.h"
#include "veomni/base/context.h"
#include "veomni/base/trace.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::parallel::toy {
namespace {

using Events = std::vector<trace::Event>;

/// Spans of one thread, outermost first.
Events in_order(Events events) {
  std::reverse(events.begin(), events.end());
  std::stable_sort(events.begin(), events.end(), [](const auto& a, const auto& b) {
    return a.begin_ns != b.begin_ns ? a.begin_ns < b.begin_ns : a.end_ns > b.end_ns;
  });
  return events;
}

void expect_nested(const Events& ordered) {
  Events open;
  for (const auto& event : ordered) {
    while (!open.empty() && open.back().end_ns <= event.begin_ns) open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(event.end_ns, open.back().end_ns)
          << event.name << " reaches out of " << open.back().name;
    }
    open.push_back(event);
  }
}

/// Gradients of two micro-batches; with `profiled`, spans by "rank path pass".
struct Result {
  Gradients gradients;
  std::map<std::string, int> spans;
  int num_waits = 0, num_collectives = 0;
};

Result train(const Case& c, bool profiled) {
  Result result;
  std::mutex mutex;
  run_ranks(c.ranks, [&](Communicator& world) {
    Spread spread(world, c);
    if (profiled) {
      profile_units(spread.model);
      trace::take(world.rank());
      trace::start();
    }
    train_micro_batches(spread.model, c, world.rank(), world.size(), spread.parallel.state);
    if (profiled) trace::stop();
    for (auto& [path, parameter] : spread.model.named_parameters()) {
      if (!parameter.trainable()) continue;
      auto full = full_gradient(parameter, *spread.parallel.group);
      if (world.rank() == 0) result.gradients[path] = full;
    }
    std::lock_guard lock(mutex);
    for (const auto& thread : trace::take(world.rank())) {
      EXPECT_EQ(thread.num_dropped, 0);
      const Events ordered = in_order(thread.events);
      expect_nested(ordered);
      for (const auto& event : ordered) {
        result.num_waits += event.category == trace::Category::kWait;
        result.num_collectives += event.category == trace::Category::kCollective;
        if (event.category == trace::Category::kUnit)
          ++result.spans[std::to_string(world.rank()) + " " + event.name + " " + event.pass];
      }
    }
  });
  return result;
}

class Profile : public testing::TestWithParam<Case> {};

TEST_P(Profile, HasEveryUnitsForwardRecomputeAndBackwardAndChangesNoBit) {
  const Case& c = GetParam();
  const Result plain = train(c, false), profiled = train(c, true);
  ASSERT_EQ(plain.gradients.size(), profiled.gradients.size());
  for (const auto& [name, gradient] : plain.gradients)
    EXPECT_TRUE(torch::equal(gradient, profiled.gradients.at(name))) << name << ", " << c;

  const bool again = c.recompute != std::vector<std::string>{"none"};
  std::map<std::string, int> want;
  for (int rank = 0; rank < c.ranks; ++rank) {
    const std::string r = std::to_string(rank) + " ";
    const auto add = [&](const std::string& path, int uses, bool recomputed) {
      want[r + path + " forward"] = want[r + path + " backward"] = uses * c.accumulation;
      if (recomputed) want[r + path + " recompute"] = uses * c.accumulation;
    };
    add("model", 1, false);
    for (const char* path : {"table", "pixels"}) add(path, 1, again);
    add("adapter", 2, again);
    for (int layer = 0; layer < 3; ++layer) {
      const std::string path = "layers." + std::to_string(layer);
      add(path, 1, again);
      add(path + ".mlp", 1, false);
      // Inside its layer, it runs again.
      if (again) want[r + path + ".mlp forward"] *= 2;
    }
  }
  EXPECT_EQ(profiled.spans, want) << c;
  EXPECT_GT(profiled.num_collectives, 0);
  EXPECT_GT(profiled.num_waits, 0);
  EXPECT_TRUE(plain.spans.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, Profile,
    testing::Values(Case{.ranks = 2, .accumulation = 2},
                    Case{.ranks = 2, .recompute = {"layer"}, .accumulation = 2},
                    Case{.ranks = 2, .strategy = "ddp"},
                    Case{.ranks = 4, .strategy = "hsdp", .recompute = {"layer"}, .dp_replicate = 2},
                    Case{.ranks = 2, .dtype = torch::kFloat, .strategy = "fsdp1"}));

TEST(ProfileUnits, LeaveTheGraphAloneWhileOff) {
  ToyModel model({.device = torch::kCPU, .dtype = torch::kDouble});
  nn::materialize(model, torch::kCPU, nn::Masters::kNone);
  nn::initialize(model, 7);
  const auto graph = [&] {
    return model.loss(make_batch(0, 0, 2, torch::kDouble), 8).grad_fn()->name();
  };
  const auto before = graph();
  profile_units(model);
  EXPECT_EQ(graph(), before);
  trace::start();
  EXPECT_EQ(graph(), "UnitExit");
  trace::stop();
  trace::take(thread_context().worker);
}

}  // namespace
}  // namespace veomni::parallel::toy
