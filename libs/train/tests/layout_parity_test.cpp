// SPDX-License-Identifier: Apache-2.0
// Every layout gives one rank's gradients, on the real model: fp64 to 1e-10, fp32 to 1e-5 (the error of DESIGN's
// section on proof, ops/compare.h).
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <gmock/gmock.h>
#include <map>
#include <optional>

#include "gradients.h"
#include "on_ranks.h"
#include "tiny_qwen3.h"
#include "veomni/comm/device_mesh.h"
#include "veomni/generate/generate.h"
#include "veomni/model/build.h"
#include "veomni/nn/materialize.h"
#include "veomni/parallel/fully_shard.h"
#include "veomni/parallel/plan.h"

namespace veomni::train {
namespace {

using tiny::backward;
using tiny::micro_batch;
using tiny::model_options;

struct Case {
  int ranks;
  bool recompute, reshard;
  int accumulation;
  bool tied, empty_rank;
  torch::ScalarType dtype;
  std::string strategy = "fsdp2";
  int dp_replicate = 1;
  bool wrong = false;  ///< the last rank's losses are off by a thousandth
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return c.strategy + "_" + std::to_string(c.dp_replicate) + "_ranks" + std::to_string(c.ranks) +
         (c.recompute ? "_recompute" : "") + (c.reshard ? "" : "_keep") + "_accumulation" +
         std::to_string(c.accumulation) + (c.tied ? "_tied" : "_untied") +
         (c.empty_rank ? "_empty_rank" : "") + (c.dtype == torch::kDouble ? "_fp64" : "_fp32");
}

bool is_empty(const Case& c, int rank) { return c.empty_rank && rank == c.ranks - 1; }

double step_scale(const Case& c) {
  int64_t count = 0;
  for (int rank = 0; rank < c.ranks; ++rank) {
    for (int k = 0; k < c.accumulation; ++k) {
      count += (micro_batch(rank, k, is_empty(c, rank)).labels_T != -100).sum().item<int64_t>();
    }
  }
  return 1.0 / static_cast<double>(count);
}

Gradients one_rank(const Case& c) {
  const auto options = model_options(c.tied);
  auto model = model::build_model(options, {torch::kMeta, c.dtype});
  nn::materialize(*model, torch::kCPU, nn::Masters::kTrainable);
  model::fill_weights(*model, options, 5);
  for (int rank = 0; rank < c.ranks; ++rank) {
    for (int k = 0; k < c.accumulation; ++k)
      backward(*model, micro_batch(rank, k, is_empty(c, rank)), step_scale(c));
  }
  Gradients out;
  for (auto& [name, p] : model->named_parameters()) out[name] = p.grad();
  return out;
}

/// one_rank(), computed once for all cases that share it.
const Gradients& reference(const Case& c) {
  static std::map<std::string, Gradients> known;
  const auto key = detail::concat(c.ranks, " ", c.accumulation, c.tied, c.empty_rank, c.dtype);
  const auto [found, is_new] = known.try_emplace(key);
  if (is_new) found->second = one_rank(c);
  return found->second;
}

Gradients many_ranks(const Case& c) {
  Gradients out;
  on_ranks::run(c.ranks, [&](Communicator& comm) {
    const auto options = model_options(c.tied);
    const DeviceMesh mesh(comm.shared_from_this(), {.dp_replicate = c.dp_replicate});
    auto model = model::build_model(options, {torch::kMeta, c.dtype});
    parallel::ParallelOptions parallel;
    parallel.defaults.strategy = c.strategy;
    parallel.defaults.bucket_mib = 0.01;  // several buckets
    parallel.defaults.recompute = {c.recompute ? "layer" : "none"};
    parallel.defaults.reshard_after_forward = c.reshard;
    const auto done = parallel::parallelize(*model, mesh, parallel);
    nn::materialize(*model, torch::kCPU, nn::Masters::kTrainable);
    model::fill_weights(*model, options, 5);
    for (int k = 0; k < c.accumulation; ++k) {
      std::optional<parallel::DeferGradientSync> defer;
      if (k + 1 < c.accumulation) defer.emplace(done.state);
      const bool wrong = c.wrong && comm.rank() == c.ranks - 1;
      backward(*model, micro_batch(comm.rank(), k, is_empty(c, comm.rank())),
               step_scale(c) * (wrong ? 1.001 : 1));
    }
    EXPECT_EQ(parallel::stats_of(*done.state).gathered_bytes, 0) << "left gathered after backward";
    for (auto& [name, p] : model->named_parameters()) {
      auto full = parallel::full_gradient(p, *done.group);
      if (on_ranks::keeps(comm)) out[name] = full;
    }
  });
  return out;
}

class LayoutParity : public testing::TestWithParam<Case> {};

TEST_P(LayoutParity, EveryGradientEqualsOneRanks) {
  const Case& c = GetParam();
  EXPECT_EQ(differences(many_ranks(c), reference(c), c.dtype == torch::kDouble ? 1e-10 : 1e-5), "");
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (int ranks : on_ranks::rank_counts({1, 2, 3, 4})) {
    for (bool recompute : {false, true}) {
      for (int accumulation : {1, 3}) {
        for (bool tied : {false, true}) {
          for (bool empty_rank : {false, true}) {
            for (auto dtype : {torch::kDouble, torch::kFloat}) {
              if (empty_rank && ranks == 1) continue;  // no token at all: nothing to divide by
              cases.push_back({ranks, recompute, true, accumulation, tied, empty_rank, dtype});
            }
          }
        }
      }
    }
  }
  for (int ranks : on_ranks::rank_counts({3}))
    cases.push_back({ranks, false, false, 3, true, true, torch::kDouble});
  const std::vector<std::pair<std::string, int>> strategies = {
      {"fsdp1", 1}, {"hsdp", 2}, {"fsdp1", 2}, {"ddp", 1}, {"replicate", 2}};
  for (const auto& [strategy, replicas] : strategies) {
    for (int ranks : on_ranks::rank_counts({2, 3, 4})) {
      for (bool tied : {false, true}) {
        const int dp_replicate = ranks % replicas == 0 ? replicas : ranks;
        cases.push_back(
            {ranks, false, true, 3, tied, true, torch::kDouble, strategy, dp_replicate});
        cases.push_back({ranks, true, true, 1, tied, false, torch::kFloat, strategy, dp_replicate});
      }
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Qwen3, LayoutParity, testing::ValuesIn(all_cases()), name_of);

TEST(LayoutParity, TheSameLayoutTwiceIsBitEqual) {
  const Case c{on_ranks::rank_counts({3})[0], true, true, 3, true, true, torch::kFloat};
  EXPECT_EQ(different_bits(many_ranks(c), many_ranks(c)), "");
}

TEST(LayoutParity, AWrongRankIsNoticed) {
  Case c{on_ranks::rank_counts({4})[0], false, true, 3, true, false, torch::kFloat};
  c.wrong = true;
  const std::string lines = differences(many_ranks(c), reference(c), 1e-5);
  for (const auto& [name, gradient] : reference(c))
    EXPECT_THAT(lines, testing::HasSubstr(name + ": error")) << "every gradient has a share of it";
}

// A whole step of ranks without any counted label: zero gradients, no NaN, no hang.
TEST(LayoutParity, AStepWithoutLabelsGivesZeroGradients) {
  on_ranks::run(on_ranks::rank_counts({2})[0], [&](Communicator& comm) {
    const auto options = model_options(true);
    const DeviceMesh mesh(comm.shared_from_this(), {});
    auto model = model::build_model(options, {torch::kMeta, torch::kFloat});
    parallel::parallelize(*model, mesh, {});
    nn::materialize(*model, torch::kCPU, nn::Masters::kTrainable);
    model::fill_weights(*model, options, 5);
    auto input = micro_batch(comm.rank(), 0, false);
    input.labels_T.fill_(-100);
    backward(*model, input, 0.0);
    for (auto& [name, p] : model->named_parameters())
      EXPECT_EQ(p.grad().abs().sum().item<float>(), 0) << name;
  });
}

TEST(DefaultGenerator, NeverMoves) {
  const auto state = [] { return at::detail::getDefaultCPUGenerator().get_state(); };
  const auto before = state();
  one_rank({1, true, true, 1, true, false, torch::kFloat});
  many_ranks({on_ranks::rank_counts({2})[0], true, true, 1, true, false, torch::kFloat});
  const auto options = model_options(true);
  auto model = model::build_model(options, {torch::kMeta, torch::kFloat});
  nn::materialize(*model, torch::kCPU, nn::Masters::kNone);
  model::fill_weights(*model, options, 5);
  generate::GenerateOptions sampled;
  sampled.max_new_tokens = 8;
  sampled.sampling.temperature = 1;
  std::vector<generate::Prompt> prompts(2);
  prompts[0].sample = {.ids = {1, 2}, .labels = {-100, -100}};
  prompts[1].sample = {.ids = {3}, .labels = {-100}};
  generate::generate(*model, prompts, sampled, {});
  EXPECT_TRUE(torch::equal(state(), before));
}

}  // namespace
}  // namespace veomni::train
