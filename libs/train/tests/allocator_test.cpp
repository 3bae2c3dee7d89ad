// SPDX-License-Identifier: Apache-2.0
// Training steps on the caching allocator: the same numbers, and no page faults once they repeat.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>

#include "gradients.h"
#include "veomni/comm/device_mesh.h"
#include "veomni/comm/run_ranks.h"
#include "veomni/model/build.h"
#include "veomni/nn/materialize.h"
#include "veomni/ops/caching_allocator.h"
#include "veomni/optim/optimizer.h"
#include "veomni/parallel/clip.h"
#include "veomni/parallel/plan.h"

namespace veomni::train {
namespace {

constexpr int kVocab = 3000, kTokens = 512;

model::ModelOptions model_options() {
  model::ModelOptions options;
  options.foundation.config = YAML::Load(
      "{model_type: qwen3, vocab_size: 3000, hidden_size: 128, intermediate_size: 384, "
      "num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32, "
      "tie_word_embeddings: false}");
  return options;
}

long minor_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// The count that the test below rests on moves with pages first written to.
TEST(Allocator, FaultsAreCounted) {
  constexpr size_t kPages = 100, kPage = 4096;
  void* got =
      mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(got, MAP_FAILED);
  madvise(got, kPages * kPage, MADV_NOHUGEPAGE);
  const long before = minor_faults();
  for (size_t i = 0; i < kPages; ++i) static_cast<volatile char*>(got)[i * kPage] = 1;
  EXPECT_GE(minor_faults() - before, static_cast<long>(kPages));
  munmap(got, kPages * kPage);
}

struct Outcome {
  std::vector<double> norms;
  std::vector<long> faults;  ///< of the process, a step
  Gradients masters;
};

void step(model::OmniModel& model, std::vector<nn::Parameter>& trained, optim::Optimizer& optimizer,
          Communicator& group, std::vector<double>& norms) {
  const auto seq = nn::make_sequence({kTokens / 2, kTokens / 4, kTokens / 4});
  const auto ids = (torch::arange(kTokens) * 7 + group.rank() * 13) % kVocab;
  model::ModelInput input{.ids_T = ids, .labels_T = (ids * 3 + 1) % kVocab, .seq = seq};
  input.weights_T = torch::full({kTokens}, 0.5 / kTokens, torch::kDouble);
  model.losses(input).total.backward();
  norms.push_back(parallel::gradient_norm(trained, group));
  std::vector<torch::Tensor> grads;
  for (const auto& parameter : trained) grads.push_back(parameter.grad());
  optimizer.step(grads, 1, parallel::clip_coefficient(norms.back(), 0.5));
  for (auto& parameter : trained) parameter.clear_grad();
}

// `steps` steps of AdamW on two ranks under fsdp2, in bf16.
Outcome train_with(const std::string& allocator, int steps) {
  ops::set_cpu_allocator(allocator);
  ops::empty_cache();
  Outcome outcome;
  run_ranks(2, [&](Communicator& comm) {
    const auto options = model_options();
    auto model = model::build_model(options, {torch::kMeta, torch::kBFloat16});
    const DeviceMesh mesh(comm.shared_from_this(), {});
    parallel::ParallelOptions parallel;
    parallel.defaults.strategy = "fsdp2";
    auto ready = parallel::parallelize(*model, mesh, parallel);
    nn::materialize(*model, torch::kCPU, nn::Masters::kTrainable);
    model::fill_weights(*model, options, 5);
    std::vector<optim::OptimParam> params;
    std::vector<nn::Parameter> trained;
    for (auto& [path, parameter] : model->named_parameters()) {
      params.push_back({parameter.name(), parameter.master(), parameter.local(), 1e-3, 0});
      trained.push_back(parameter);
    }
    auto optimizer = optim::make_optimizer(optim::OptimOptions{}, std::move(params));
    std::vector<double> norms;
    for (int i = 0; i < steps; ++i) {
      comm.barrier()->wait();
      const long before = minor_faults();
      step(*model, trained, *optimizer, comm, norms);
      comm.barrier()->wait();
      if (comm.rank() == 0) outcome.faults.push_back(minor_faults() - before);
    }
    Gradients masters;
    for (const auto& parameter : trained)
      masters[parameter.name()] = parallel::full_master(parameter, *ready.group);
    if (comm.rank() == 0) {
      outcome.norms = norms;
      outcome.masters = std::move(masters);
    }
  });
  ops::set_cpu_allocator("system");
  return outcome;
}

TEST(Allocator, NumbersAreBitEqualWithEither) {
  const Outcome system = train_with("system", 4), caching = train_with("caching", 4);
  EXPECT_EQ(caching.norms, system.norms);
  for (const auto& [name, master] : system.masters)
    EXPECT_TRUE(torch::equal(master, caching.masters.at(name))) << name;
}

// The ranks' threads interleave anew each step, so what they need at once still grows for some steps.
TEST(Allocator, ASteadyStepFaultsNoPage) {
  const Outcome run = train_with("caching", 12);
  std::vector<long> last(run.faults.end() - 5, run.faults.end());
  RecordProperty("faults", testing::PrintToString(run.faults));
  RecordProperty("faults_of_system", testing::PrintToString(train_with("system", 12).faults));
  std::sort(last.begin(), last.end());
#if !defined(__SANITIZE_ADDRESS__)  // which keeps freed memory from being used again
  EXPECT_LE(last[2], 10) << "median of the last five steps: " << testing::PrintToString(run.faults);
#endif
  EXPECT_GT(run.faults[0], 0) << "the first step takes its memory from the system";
}

}  // namespace
}  // namespace veomni::train
