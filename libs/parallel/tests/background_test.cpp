// SPDX-License-Identifier: Apache-2.0
// Every strategy where bytes move at any time between a call and its wait.
#include <gtest/gtest.h>

#include "background_communicator.h"
#include "strategies.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::parallel {
namespace {

using namespace toy;

class InTheBackground : public testing::TestWithParam<Strategy> {};

TEST_P(InTheBackground, GradientsEqualOneRanks) {
  for (const char* recompute : {"none", "layer", "*"}) {
    for (int ranks : {2, 4}) {
      const Case c =
          spread_by(GetParam(), {.ranks = ranks, .recompute = {recompute}, .accumulation = 3});
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

INSTANTIATE_TEST_SUITE_P(Toy, InTheBackground, testing::ValuesIn(kStrategies),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace veomni::parallel
