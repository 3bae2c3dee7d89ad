// SPDX-License-Identifier: Apache-2.0
// Steps of AdamW with clipping under every strategy end at one rank's weights; what one layout saves, any
// other goes on from, bit by bit.
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "gradients.h"
#include "tiny_qwen3.h"
#include "veomni/checkpoint/checkpoint.h"
#include "veomni/comm/device_mesh.h"
#include "veomni/comm/run_ranks.h"
#include "veomni/nn/materialize.h"
#include "veomni/optim/optimizer.h"
#include "veomni/parallel/clip.h"
#include "veomni/parallel/plan.h"

namespace veomni::train {
namespace {

namespace fs = std::filesystem;

struct Layout {
  std::string name, strategy;
  int ranks = 1, dp_replicate = 1;
  bool mixed = false;
};

constexpr int kBatches = 4, kAccumulation = 2;  // of a step over all ranks and micro-batches

// One rank of a job: a model, its optimizer, its share of every step's batches.
class Job {
 public:
  Job(const Layout& layout, torch::ScalarType dtype, Communicator& comm, bool tied = true)
      : world_(comm.shared_from_this()), tied_(tied) {
    const auto options = tiny::model_options(tied_);
    model_ = model::build_model(options, {torch::kMeta, dtype});
    const DeviceMesh mesh(world_, {.dp_replicate = layout.dp_replicate});
    parallel::ParallelOptions parallel;
    parallel.defaults.strategy = layout.strategy;
    parallel.defaults.bucket_mib = 0.01;
    if (layout.mixed) {
      parallel.modules["foundation.layers.0"].strategy = "fsdp1";
      parallel.modules["foundation.layers.1"].mesh = parallel::ModuleMesh{.dp_replicate = 2};
    }
    parallel_ = parallel::parallelize(*model_, mesh, parallel);
    nn::materialize(*model_, torch::kCPU, nn::Masters::kTrainable);
    model::fill_weights(*model_, options, 5);
    optim::OptimOptions adamw;
    adamw.weight_decay = 0.1;
    std::vector<optim::OptimParam> params;
    for (auto& [path, parameter] : model_->named_parameters()) {
      params.push_back({parameter.name(), parameter.master(), parameter.local(), 1e-3, 0});
      optim::apply_groups(adamw, parameter.tags() & nn::kTagNorm, params.back());
      params.back().lr = 1e-3;
      trained_.push_back(parameter);
    }
    optimizer_ = optim::make_optimizer(adamw, std::move(params));
  }

  // Batch (b, k) belongs to rank b % ranks whoever there is, so that every layout sees the same ones.
  void step() {
    for (int k = 0; k < kAccumulation; ++k) {
      for (int b = world_->rank(); b < kBatches; b += world_->size()) {
        const bool last = k + 1 == kAccumulation && b + world_->size() >= kBatches;
        std::optional<parallel::DeferGradientSync> defer;
        if (!last) defer.emplace(parallel_.state);
        const bool empty = b == kBatches - 1;
        tiny::backward(*model_, tiny::micro_batch(b, k, empty), 1.0 / 60);
      }
    }
    const double norm = parallel::gradient_norm(trained_, *parallel_.group);
    norms.push_back(norm);
    std::vector<torch::Tensor> grads;
    for (const auto& parameter : trained_) grads.push_back(parameter.grad());
    optimizer_->step(grads, 1, parallel::clip_coefficient(norm, 0.5));
    for (auto& parameter : trained_) parameter.clear_grad();
  }

  Gradients masters() {
    Gradients out;
    for (const auto& parameter : trained_)
      out[parameter.name()] = parallel::full_master(parameter, *parallel_.group);
    return out;
  }
  checkpoint::TrainingState state() { return {model_.get(), optimizer_.get(), {}}; }

  std::vector<double> norms;

 private:
  std::shared_ptr<Communicator> world_;
  bool tied_;
  std::unique_ptr<model::OmniModel> model_;
  parallel::Parallelized parallel_;
  std::vector<nn::Parameter> trained_;
  std::unique_ptr<optim::Optimizer> optimizer_;
};

struct Outcome {
  Gradients masters;
  std::vector<double> norms;
};

Outcome run(const Layout& layout, torch::ScalarType dtype, int steps) {
  Outcome outcome;
  run_ranks(layout.ranks, [&](Communicator& comm) {
    Job job(layout, dtype, comm);
    for (int i = 0; i < steps; ++i) job.step();
    auto masters = job.masters();
    if (comm.rank() == 0) outcome = {std::move(masters), job.norms};
  });
  return outcome;
}

const Layout kOne{"one", "fsdp2"};
const std::vector<Layout> kLayouts = {{"fsdp2", "fsdp2", 2},
                                      {"fsdp1", "fsdp1", 4},
                                      {"hsdp", "hsdp", 4, 2},
                                      {"flat_hsdp", "fsdp1", 4, 2},
                                      {"ddp", "ddp", 2},
                                      {"replicate", "replicate", 4},
                                      {"mixed", "fsdp2", 4, 1, true},
                                      {"mixed_ddp", "ddp", 2, 1, true}};

class StrategySteps : public testing::TestWithParam<Layout> {};

void expect_same_outcome(const Outcome& got, const Outcome& want, double tolerance) {
  expect_same_gradients(got.masters, want.masters, tolerance);
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
  for (const auto& [name, master] : a.masters)
    EXPECT_TRUE(torch::equal(master, b.masters.at(name))) << name;
}

TEST_P(StrategySteps, EveryLayoutGoesOnFromItsCheckpoint) {
  const std::string root = testing::TempDir() + "strategy_steps_" + GetParam().name;
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

INSTANTIATE_TEST_SUITE_P(Qwen3, StrategySteps, testing::ValuesIn(kLayouts),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace veomni::train
