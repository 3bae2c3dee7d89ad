// SPDX-License-Identifier: Apache-2.0
#include "codebook.h"

#include <algorithm>

#include "batch_input.h"
#include "veomni/base/rng.h"
#include "veomni/io/shard_spec.h"
#include "veomni/parallel/fully_shard.h"

namespace veomni::train {

namespace {

constexpr int kIterations = 20;

// Squared distances [R, C].
torch::Tensor distances(const torch::Tensor& x_RE, const torch::Tensor& codes_CE) {
  return x_RE.square().sum(1, true) + codes_CE.square().sum(1) - 2 * x_RE.matmul(codes_CE.t());
}

// An index drawn with probability proportional to weight >= 0; the last one that has any weight at the edge.
int64_t draw(const torch::Tensor& weight_R, double uniform) {
  const auto cumulative = weight_R.cumsum(0).contiguous();
  const double* sums = cumulative.const_data_ptr<double>();
  const int64_t count = cumulative.size(0);
  const double* at = std::upper_bound(sums, sums + count, uniform * sums[count - 1]);
  return std::min<int64_t>(at - sums, count - 1);
}

}  // namespace

torch::Tensor k_means(const torch::Tensor& x, int64_t num_codes, uint64_t seed, int iterations) {
  const auto x_RE = x.to(torch::kDouble);
  const KeyedRng rng(seed, "k_means");
  auto codes_CE = torch::empty({num_codes, x_RE.size(1)}, torch::kDouble);
  auto nearest_R = torch::ones({x_RE.size(0)}, torch::kDouble);
  for (int64_t c = 0; c < num_codes; ++c) {
    codes_CE[c].copy_(x_RE[draw(nearest_R, rng.uniform_at(c))]);
    const auto distance_R = (x_RE - codes_CE[c]).square().sum(1);
    nearest_R = c == 0 ? distance_R : torch::minimum(nearest_R, distance_R);
  }
  for (int i = 0; i < iterations; ++i) {
    const auto code_R = distances(x_RE, codes_CE).argmin(1);
    const auto count_C = torch::bincount(code_R, {}, num_codes).to(torch::kDouble).unsqueeze(1);
    const auto sum_CE = torch::zeros_like(codes_CE).index_add_(0, code_R, x_RE);
    codes_CE = torch::where(count_C > 0, sum_CE / count_C.clamp_min(1), codes_CE);
  }
  return codes_CE;
}

torch::Tensor restart_unused(const torch::Tensor& codes, const torch::Tensor& x, uint64_t seed,
                             int64_t step) {
  const auto x_RE = x.to(torch::kDouble);
  auto codes_CE = codes.to(torch::kDouble).clone();
  const auto [distance_R, code_R] = distances(x_RE, codes_CE).min(1);
  const auto count_C = torch::bincount(code_R, {}, codes_CE.size(0)).contiguous();
  const auto weight_R = distance_R.clamp_min(1e-12);
  const KeyedRng rng(seed, "restart_code", step);
  for (int64_t c = 0; c < codes_CE.size(0); ++c) {
    if (count_C.const_data_ptr<int64_t>()[c] > 0) continue;
    codes_CE[c].copy_(x_RE[draw(weight_R, rng.uniform_at(c))]);
  }
  return codes_CE;
}

CodebookKeeper::CodebookKeeper(const CodebookOptions& options, uint64_t seed,
                               model::OmniModel& model, Communicator& dp, Communicator& group)
    : options_(options),
      seed_(seed),
      model_(model),
      modality_(model.decoders().begin()->first),
      dp_(dp),
      group_(group) {}

void CodebookKeeper::before_step(int64_t step, const std::vector<data::Batch>& batches) {
  const bool begin = options_.autoencoder_steps > 0 && step == options_.autoencoder_steps;
  const bool restart = options_.restart_every > 0 && step > options_.autoencoder_steps &&
                       step < options_.restart_until && step % options_.restart_every == 0;
  if (!begin && !restart) return;
  torch::NoGradGuard no_grad;
  const auto latents_RE = all_latents(batches);
  if (latents_RE.size(0) == 0) return;
  auto codebook = model_.decoder(modality_).codebook();
  if (begin) {
    write(k_means(latents_RE, codebook.shape()[0], seed_, kIterations));
  } else {
    write(restart_unused(parallel::full_master(codebook, group_), latents_RE, seed_, step));
  }
}

// The latents of all ranks' batches, in rank order, on every rank.
torch::Tensor CodebookKeeper::all_latents(const std::vector<data::Batch>& batches) {
  std::vector<torch::Tensor> parts;
  for (const auto& batch : batches) {
    const auto items = batch.targets.find(modality_);
    const auto input =
        items == batch.targets.end() ? model::MediaInput{} : media_input(items->second);
    parts.push_back(model_.latents(modality_, input).to(torch::kDouble));
  }
  const auto mine = torch::cat(parts);
  auto counts = torch::zeros({dp_.size()}, torch::kLong);
  counts[dp_.rank()] = mine.size(0);
  dp_.all_reduce(counts, counts, ReduceOp::kSum)->wait();
  const int64_t before = counts.narrow(0, 0, dp_.rank()).sum().item<int64_t>();
  // A row lies on one rank, so the sum places it.
  auto all = torch::zeros({counts.sum().item<int64_t>(), mine.size(1)}, torch::kDouble);
  all.narrow(0, before, mine.size(0)).copy_(mine);
  dp_.all_reduce(all, all, ReduceOp::kSum)->wait();
  return all;
}

void CodebookKeeper::write(const torch::Tensor& codes_CE) {
  auto codebook = model_.decoder(modality_).codebook();
  auto rows = torch::empty(codebook.shard().local_shape(), torch::kDouble);
  const auto full = codes_CE.contiguous();
  for (const auto& run : io::element_runs(codebook.shard())) {
    std::copy_n(full.const_data_ptr<double>() + run.full_begin, run.length,
                rows.data_ptr<double>() + run.local_begin);
  }
  codebook.assign_local(rows);
}

}  // namespace veomni::train
