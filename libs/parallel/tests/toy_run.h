// SPDX-License-Identifier: Apache-2.0
/// Runs the toy model on one rank and on many, and compares.
#pragma once

#include <gtest/gtest.h>

#include <ostream>

#include "gradients.h"
#include "on_ranks.h"
#include "toy_model.h"
#include "veomni/parallel/plan.h"

namespace veomni::parallel::toy {

inline constexpr int kSamples = 3;  // of a micro-batch: a fourth rank has no token

struct Case {
  int ranks = 1;
  torch::ScalarType dtype = torch::kDouble;
  std::string strategy = "fsdp2";
  bool reshard = true;
  std::vector<std::string> recompute = {"none"};
  int accumulation = 1;
  std::vector<std::string> frozen = {};  ///< patterns
  bool all_on_rank_0 = false;            ///< the others have no token at all
  int dp_replicate = 1;
  bool tied = true;
  int64_t pixels_until = kSamples;  ///< samples from here on have no pixels
  bool defer = true;                ///< tell which micro-batch is the last
  ParallelOptions more = {};        ///< beside the above
};

inline std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.ranks << " ranks, dp_replicate " << c.dp_replicate << ", " << c.dtype << ", "
             << c.strategy << ", reshard " << c.reshard << ", recompute " << join(c.recompute)
             << ", accumulation " << c.accumulation << (c.defer ? "" : " undeferred") << ", frozen "
             << join(c.frozen) << (c.all_on_rank_0 ? ", all on rank 0" : "")
             << (c.tied ? ", tied" : ", untied") << ", pixels until " << c.pixels_until;
}

inline void freeze(ToyModel& model, const std::vector<std::string>& patterns) {
  for (auto& [path, parameter] : model.named_parameters()) {
    for (const auto& pattern : patterns) {
      if (matches_pattern(path, pattern)) parameter.set_trainable(false);
    }
  }
}

inline Batch batch_of(const Case& c, int micro, int rank, int ranks) {
  auto slice = io::shard_rows(kSamples, rank, ranks);
  if (c.all_on_rank_0) slice = rank == 0 ? io::Slice{0, kSamples} : io::Slice{kSamples, 0};
  return make_batch(micro, slice.begin, slice.begin + slice.length, c.dtype, c.pixels_until);
}

inline void train_micro_batches(ToyModel& model, const Case& c, int rank, int ranks,
                                const std::shared_ptr<StepState>& state = {}) {
  for (int micro = 0; micro < c.accumulation; ++micro) {
    std::unique_ptr<DeferGradientSync> defer;
    if (state && c.defer && micro + 1 < c.accumulation)
      defer = std::make_unique<DeferGradientSync>(state);
    model
        .loss(batch_of(c, micro, rank, ranks), double(kSamples * kTokensPerSample * c.accumulation))
        .backward();
  }
}

/// The model as it is, without any interceptor.
inline Gradients reference(const Case& c) {
  ToyModel model({.device = torch::kCPU, .dtype = c.dtype}, 3, c.tied);
  freeze(model, c.frozen);
  nn::materialize(model, torch::kCPU, nn::Masters::kTrainable);
  nn::initialize(model, 7);
  train_micro_batches(model, c, 0, 1);
  Gradients gradients;
  for (auto& [path, parameter] : model.named_parameters()) {
    if (!parameter.trainable()) continue;
    const auto gradient = parameter.grad();
    gradients[path] = gradient.defined() ? gradient : torch::zeros_like(parameter.value()).detach();
  }
  return gradients;
}

inline ParallelOptions options_of(const Case& c) {
  ParallelOptions options = c.more;
  options.defaults.strategy = c.strategy;
  options.defaults.reshard_after_forward = c.reshard;
  options.defaults.recompute = c.recompute;
  return options;
}

/// A model spread over ranks and filled.
struct Spread {
  ToyModel model;
  Parallelized parallel;

  Spread(Communicator& world, const Case& c)
      : model({.device = torch::kMeta, .dtype = c.dtype}, 3, c.tied) {
    freeze(model, c.frozen);
    DeviceMesh mesh(world.shared_from_this(), {.dp_replicate = c.dp_replicate});
    parallel = parallelize(model, mesh, options_of(c));
    nn::materialize(model, torch::kCPU, nn::Masters::kTrainable);
    nn::initialize(model, 7);
  }
  const ShardStats& stats() const { return stats_of(*parallel.state); }
};

inline Gradients parallel_gradients(const Case& c) {
  Gradients gradients;
  on_ranks::run(c.ranks, [&](Communicator& world) {
    Spread spread(world, c);
    train_micro_batches(spread.model, c, world.rank(), world.size(), spread.parallel.state);
    EXPECT_EQ(spread.stats().gathered_bytes, 0) << "left gathered, " << c;
    for (auto& [path, parameter] : spread.model.named_parameters()) {
      if (!parameter.trainable()) {
        EXPECT_FALSE(parameter.grad().defined()) << path;
        continue;
      }
      EXPECT_TRUE(parameter.grad().defined()) << path << " has no gradient, " << c;
      auto full = full_gradient(parameter, *spread.parallel.group);
      if (on_ranks::keeps(world)) gradients[path] = full;
    }
  });
  return gradients;
}

inline void expect_equal(const Gradients& got, const Gradients& want, double tolerance,
                         const Case& c) {
  EXPECT_EQ(differences(got, want, tolerance), "") << c;
}

}  // namespace veomni::parallel::toy
