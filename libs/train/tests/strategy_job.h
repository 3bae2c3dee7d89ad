// SPDX-License-Identifier: Apache-2.0
/// A small training job on any layout: steps of AdamW with clipping, over batches that all layouts share.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gradients.h"
#include "tiny_qwen3.h"
#include "veomni/checkpoint/checkpoint.h"
#include "veomni/comm/device_mesh.h"
#include "veomni/nn/materialize.h"
#include "veomni/optim/optimizer.h"
#include "veomni/parallel/clip.h"
#include "veomni/parallel/plan.h"

namespace veomni::train {

struct Layout {
  std::string name, strategy;
  int ranks = 1, dp_replicate = 1;
  bool mixed = false;  ///< some layers another way than the rest
};

inline constexpr int kBatches = 4, kAccumulation = 2;  // of a step over all ranks and micro-batches

/// Of a mesh of so many ranks: an odd number has no two.
inline int replicas(int ranks) { return ranks % 2 == 0 ? 2 : ranks; }

/// Every strategy on so many ranks.
inline std::vector<Layout> layouts_of(int ranks) {
  const int two = replicas(ranks);
  return {{"fsdp2", "fsdp2", ranks},
          {"fsdp1", "fsdp1", ranks},
          {"hsdp", "hsdp", ranks, two},
          {"flat_hsdp", "fsdp1", ranks, two},
          {"ddp", "ddp", ranks},
          {"replicate", "replicate", ranks},
          {"mixed", "fsdp2", ranks, 1, true},
          {"mixed_ddp", "ddp", ranks, 1, true}};
}
inline const Layout kOne{"one", "fsdp2"};

/// One rank of a job: a model, its optimizer, its share of every step's batches.
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
      parallel.modules["foundation.layers.1"].mesh =
          parallel::ModuleMesh{.dp_replicate = replicas(layout.ranks)};
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

  /// Batch (b, k) belongs to rank b % ranks whoever there is, so that every layout sees the same ones.
  /// Ranks make equally many passes: one that has no batch left runs an empty one.
  void step() {
    const int ranks = world_->size(), passes = (kBatches + ranks - 1) / ranks;
    for (int k = 0; k < kAccumulation; ++k) {
      for (int pass = 0; pass < passes; ++pass) {
        std::optional<parallel::DeferGradientSync> defer;
        if (k + 1 < kAccumulation || pass + 1 < passes) defer.emplace(parallel_.state);
        const int b = pass * ranks + world_->rank();
        tiny::backward(*model_, tiny::micro_batch(b, k, b >= kBatches - 1), 1.0 / 60);
      }
    }
    const double norm = parallel::gradient_norm(trained_, *parallel_.group);
    norms.push_back(norm);
    std::vector<torch::Tensor> grads;
    for (const auto& parameter : trained_) grads.push_back(parameter.grad());
    optimizer_->step(grads, 1, parallel::clip_coefficient(norm, 0.5));
    for (auto& parameter : trained_) {
      parameter.written();
      parameter.clear_grad();
    }
  }

  /// Of all weights, kept now.
  int64_t packed_bytes() const {
    int64_t bytes = 0;
    for (const auto& parameter : trained_) bytes += parameter.packed()->bytes();
    return bytes;
  }
  void keep_packed_weights() {
    for (const auto& parameter : trained_) parameter.packed()->keep(true);
  }
  /// Every rank's part of every weight, halved.
  void halve_shards() {
    for (auto& parameter : trained_) parameter.assign_local(parameter.master() * 0.5);
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

}  // namespace veomni::train
