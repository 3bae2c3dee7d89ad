// SPDX-License-Identifier: Apache-2.0
// What one layout saves, any other goes on from, bit by bit.
#include <gtest/gtest.h>

#include <filesystem>

#include "strategy_job.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::train {
namespace {

namespace fs = std::filesystem;

const std::vector<Layout> kLayouts = {{"fsdp2", "fsdp2", 2},
                                      {"fsdp1", "fsdp1", 4},
                                      {"hsdp", "hsdp", 4, 2},
                                      {"flat_hsdp", "fsdp1", 4, 2},
                                      {"ddp", "ddp", 2},
                                      {"replicate", "replicate", 4},
                                      {"mixed", "fsdp2", 4, 1, true},
                                      {"mixed_ddp", "ddp", 2, 1, true}};

class StrategyResume : public testing::TestWithParam<Layout> {};

TEST_P(StrategyResume, EveryLayoutGoesOnFromItsCheckpoint) {
  const std::string root = testing::TempDir() + "strategy_resume_" + GetParam().name;
  fs::remove_all(root);
  Gradients saved;
  run_ranks(GetParam().ranks, [&](Communicator& comm) {
    Job job(GetParam(), torch::kBFloat16, comm);
    job.step();
    job.step();
    checkpoint::save(root, 2, job.state(), comm);
    auto masters = job.masters();
    if (comm.rank() == 0) saved = std::move(masters);
  });
  for (const auto& layout : {kOne, kLayouts[0], kLayouts[1], kLayouts[2], kLayouts[6]}) {
    run_ranks(layout.ranks, [&](Communicator& comm) {
      Job job(layout, torch::kBFloat16, comm);
      checkpoint::load(root + "/step_00000002", job.state(), comm);
      const auto masters = job.masters();
      if (comm.rank() != 0) return;
      for (const auto& [name, master] : saved)
        EXPECT_TRUE(torch::equal(masters.at(name), master)) << layout.name << " " << name;
    });
  }
  // And on: the same layout takes the step that would have come.
  std::vector<double> norms[2];
  for (int resumed : {0, 1}) {
    run_ranks(GetParam().ranks, [&](Communicator& comm) {
      Job job(GetParam(), torch::kBFloat16, comm);
      if (resumed) {
        checkpoint::load(root + "/step_00000002", job.state(), comm);
      } else {
        job.step();
        job.step();
      }
      job.step();
      job.step();
      if (comm.rank() == 0) norms[resumed] = {job.norms.end() - 2, job.norms.end()};
    });
  }
  EXPECT_EQ(norms[0], norms[1]);
  fs::remove_all(root);
}

INSTANTIATE_TEST_SUITE_P(Qwen3, StrategyResume, testing::ValuesIn(kLayouts),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace veomni::train
