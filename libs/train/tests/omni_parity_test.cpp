// SPDX-License-Identifier: Apache-2.0
// Ranks that lack a modality: every gradient equals one rank's, whoever has it, whatever trains, and nobody hangs.
#include <gtest/gtest.h>

#include <array>
#include <optional>

#include "gradients.h"
#include "on_ranks.h"
#include "veomni/comm/device_mesh.h"
#include "veomni/model/build.h"
#include "veomni/nn/materialize.h"
#include "veomni/parallel/fully_shard.h"
#include "veomni/parallel/plan.h"

namespace veomni::train {
namespace {

enum class Who { kNobody, kFirst, kLast, kOdd, kAll };

bool has(Who who, int rank, int ranks) {
  switch (who) {
    case Who::kNobody: return false;
    case Who::kFirst: return rank == 0;
    case Who::kLast: return rank == ranks - 1;
    case Who::kOdd: return rank % 2 == 1;
    case Who::kAll: return true;
  }
  return false;
}

struct Case {
  int ranks;
  Who image, audio, drawn;
  std::string train_image = "all", train_audio = "all", train_drawn = "all",
              train_foundation = "all";
  bool recompute = false;
  // One for all, or "mixed": the picture encoder whole, the audio encoder flat, the drawer in two
  // replicas where ranks allow it, the rest by rows.
  std::string strategy = "fsdp2";
  bool tied = true;
  int accumulation = 1;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  const auto word = [](Who who) {
    return std::string(std::array{"Nobody", "First", "Last", "Odd", "All"}[static_cast<int>(who)]);
  };
  return "ranks" + std::to_string(c.ranks) + "_image" + word(c.image) + "_" + c.train_image +
         "_audio" + word(c.audio) + "_" + c.train_audio + "_drawn" + word(c.drawn) + "_" +
         c.train_drawn + "_foundation_" + c.train_foundation + (c.recompute ? "_recompute" : "") +
         "_" + c.strategy + (c.tied ? "_tied" : "_untied") + "_accumulation" +
         std::to_string(c.accumulation);
}

model::ModelOptions model_options(const Case& c) {
  model::ModelOptions options;
  options.foundation.config = YAML::Load(
      "{model_type: qwen3, vocab_size: 61, hidden_size: 24, intermediate_size: 40, "
      "num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 6, "
      "initializer_range: 0.2, tie_word_embeddings: " +
      std::string(c.tied ? "true}" : "false}"));
  options.foundation.train = c.train_foundation;
  // 16 wide: a projector joins it to the foundation's 24.
  options.encoders["image"].type = "qwen2_vl_vision";
  options.encoders["image"].config = YAML::Load(
      "{depth: 2, embed_dim: 16, hidden_size: 16, num_heads: 2, mlp_ratio: 2, in_channels: 3, "
      "patch_size: 2, spatial_merge_size: 2, temporal_patch_size: 1, hidden_act: quick_gelu, "
      "initializer_range: 0.2}");
  options.encoders["image"].train = c.train_image;
  options.encoders["audio"].type = "qwen2_5_omni_audio";
  options.encoders["audio"].config = YAML::Load(
      "{num_mel_bins: 8, d_model: 16, encoder_layers: 2, encoder_attention_heads: 2, "
      "encoder_ffn_dim: 32, n_window: 8, output_dim: 24, max_source_positions: 100, "
      "activation_function: gelu, initializer_range: 0.2}");
  options.encoders["audio"].train = c.train_audio;
  options.decoders["image"].type = "janus_vq16";
  options.decoders["image"].config = YAML::Load(
      "{base_channels: 32, channel_multiplier: [1, 1], num_res_blocks: 1, latent_channels: 32, "
      "embed_dim: 8, num_embeddings: 19, num_patches: 2, initializer_range: 0.2}");
  options.decoders["image"].train = c.train_drawn;
  return options;
}

// Draws of a micro-batch: a function of (seed, purpose) only.
torch::Tensor draws(int seed, int purpose, std::vector<int64_t> shape) {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return (torch::arange(count, torch::kDouble) * (0.37 + 0.11 * purpose) + seed + purpose)
      .sin()
      .view(shape);
}

void put(std::map<std::string, model::MediaInput>& inputs, const std::string& modality,
         torch::Tensor features, std::vector<model::Grid> grids, std::vector<int64_t> tokens) {
  inputs[modality] = {std::move(features), std::move(grids), {torch::tensor(tokens)}, {}};
}

// One row of 30 tokens: text; two pictures of 2 tokens at 3 and 9; a clip of 2 tokens at 13; a picture to draw at 20.
// Micro-batch k of a rank lacks what its rank lacks, and the second of three has text alone on every rank.
model::ModelInput micro_batch(const Case& c, int rank, int k) {
  auto seq = nn::make_sequence({18, 12});
  const int seed = rank + 5 * k;
  auto ids = (torch::arange(30) * 7 + seed * 13) % 61, labels = (ids * 3 + 1) % 61;
  model::ModelInput input{.ids_T = ids, .labels_T = labels, .seq = seq};
  if (k == 1) return input;
  if (has(c.image, rank, c.ranks))
    put(input.inputs, "image", draws(seed, 1, {16, 12}), {{1, 4, 2}, {1, 2, 4}}, {3, 4, 9, 10});
  if (has(c.audio, rank, c.ranks))
    put(input.inputs, "audio", draws(seed, 2, {10, 8}), {{10, 1, 1}}, {13, 14});
  if (has(c.drawn, rank, c.ranks))
    put(input.targets, "image", draws(seed, 3, {16, 3}), {{3, 4, 4}}, {20, 21, 22, 23});
  return input;
}

void backward(model::OmniModel& model, const Case& c, int rank, int k) {
  auto input = micro_batch(c, rank, k);
  int64_t drawing = 0;  // micro-batches with a picture to draw
  for (int r = 0; r < c.ranks; ++r)
    drawing += has(c.drawn, r, c.ranks) ? (c.accumulation + 1) / 2 : 0;
  input.weights_T = torch::full({30}, 1.0 / (30.0 * c.ranks * c.accumulation), torch::kDouble);
  for (auto& [modality, items] : input.targets) {
    items.weights_R = torch::full({items.routes.tokens.size(0)},
                                  0.5 / (4.0 * static_cast<double>(drawing)), torch::kDouble);
  }
  auto total = model.losses(input).total;
  if (total.requires_grad()) total.backward();
}

Gradients one_rank(const Case& c) {
  const auto options = model_options(c);
  auto model = model::build_model(options, {torch::kMeta, torch::kDouble});
  nn::materialize(*model, torch::kCPU, nn::Masters::kTrainable);
  model::fill_weights(*model, options, 5);
  for (int rank = 0; rank < c.ranks; ++rank) {
    for (int k = 0; k < c.accumulation; ++k) backward(*model, c, rank, k);
  }
  Gradients out;
  for (auto& [name, p] : model->named_parameters()) {
    if (p.trainable()) out[name] = p.grad();
  }
  return out;
}

/// one_rank(), computed once for all cases that share it.
const Gradients& reference(Case c) {
  static std::map<std::string, Gradients> known;
  c.strategy = "any";
  c.recompute = false;
  const auto [found, is_new] = known.try_emplace(name_of({c, 0}));
  if (is_new) found->second = one_rank(c);
  return found->second;
}

parallel::ParallelOptions parallel_options(const Case& c) {
  parallel::ParallelOptions options;
  options.defaults.recompute = {c.recompute ? "layer" : "none"};
  options.defaults.strategy = c.strategy == "mixed" ? "fsdp2" : c.strategy;
  if (c.strategy == "mixed") {
    options.modules["encoders.image"].strategy = "replicate";
    options.modules["encoders.audio"].strategy = "fsdp1";
    if (c.ranks % 2 == 0)
      options.modules["decoders.image"].mesh = parallel::ModuleMesh{.dp_replicate = 2};
  }
  return options;
}

// Of a mesh for hsdp two replicas, an odd number of ranks has one each.
int dp_replicate(const Case& c) {
  if (c.strategy != "hsdp") return 1;
  return c.ranks % 2 == 0 ? 2 : c.ranks;
}

Gradients many_ranks(const Case& c) {
  Gradients out;
  on_ranks::run(c.ranks, [&](Communicator& comm) {
    const auto options = model_options(c);
    const DeviceMesh mesh(comm.shared_from_this(), {.dp_replicate = dp_replicate(c)});
    auto model = model::build_model(options, {torch::kMeta, torch::kDouble});
    const auto done = parallel::parallelize(*model, mesh, parallel_options(c));
    nn::materialize(*model, torch::kCPU, nn::Masters::kTrainable);
    model::fill_weights(*model, options, 5);
    for (int k = 0; k < c.accumulation; ++k) {
      std::optional<parallel::DeferGradientSync> defer;
      if (k + 1 < c.accumulation) defer.emplace(done.state);
      backward(*model, c, comm.rank(), k);
    }
    EXPECT_EQ(parallel::stats_of(*done.state).gathered_bytes, 0) << "left gathered after backward";
    for (auto& [name, p] : model->named_parameters()) {
      if (!p.trainable()) continue;
      auto full = parallel::full_gradient(p, *done.group);
      if (on_ranks::keeps(comm)) out[name] = full;
    }
  });
  return out;
}

class OmniParity : public testing::TestWithParam<Case> {};

TEST_P(OmniParity, EveryGradientEqualsOneRanks) {
  const Case& c = GetParam();
  const auto& want = reference(c);
  EXPECT_EQ(differences(many_ranks(c), want, 1e-10), "");
  const auto is_zero = [&](const std::string& part) {
    for (const auto& [name, g] : want) {
      if (name.starts_with(part) && g.abs().max().item<double>() != 0) return false;
    }
    return true;
  };
  const bool trains_image = c.train_image == "all";
  EXPECT_TRUE(!trains_image || is_zero("encoders.image") == (c.image == Who::kNobody));
}

constexpr std::array kStrategies = {"fsdp2", "mixed", "fsdp1", "hsdp", "ddp", "replicate"};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const std::vector<Who> whos = {Who::kNobody, Who::kFirst, Who::kLast, Who::kOdd, Who::kAll};
  for (int ranks : on_ranks::rank_counts({2, 3, 4})) {
    for (Who who : whos) {
      for (const char* train : {"all", "none"}) {
        // One modality in doubt at a time, the others where their ranks differ from it.
        cases.push_back({ranks, who, Who::kFirst, Who::kLast, train});
        cases.push_back({ranks, Who::kLast, who, Who::kOdd, "all", train});
        cases.push_back({ranks, Who::kOdd, Who::kLast, who, "all", "all", train});
      }
    }
    cases.push_back({ranks, Who::kNobody, Who::kNobody, Who::kNobody});
    cases.push_back({ranks, Who::kFirst, Who::kOdd, Who::kLast, "projector", "projector", "head"});
    cases.push_back({ranks, Who::kFirst, Who::kOdd, Who::kLast, "all", "all", "all", "none"});
    cases.push_back({ranks, Who::kFirst, Who::kOdd, Who::kLast, "all", "none", "all", "all", true});
    for (const char* strategy : kStrategies) {
      Case two{ranks, Who::kNobody, Who::kLast, Who::kFirst, "all", "none", "head", "all", true};
      two.strategy = strategy;
      cases.push_back(two);
      // The whole matrix: frozen encoders, missing modalities, accumulation, recompute, a tied head.
      for (int bits = 0; bits < 32; ++bits) {
        const auto bit = [&](int i) { return (bits >> i & 1) != 0; };
        Case c{ranks, Who::kAll, Who::kAll, Who::kAll};
        if (bit(0)) c.image = Who::kFirst, c.audio = Who::kOdd, c.drawn = Who::kLast;
        if (bit(1)) c.train_image = c.train_audio = "none";
        c.accumulation = bit(2) ? 3 : 1;
        c.recompute = bit(3);
        c.tied = bit(4);
        c.strategy = strategy;
        cases.push_back(c);
      }
    }
  }
  // A projector cannot be frozen before it was ever trained: its encoder is.
  for (auto& c : cases) {
    if (c.train_image == "none") c.train_image = "projector";
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Modalities, OmniParity, testing::ValuesIn(all_cases()), name_of);

}  // namespace
}  // namespace veomni::train
