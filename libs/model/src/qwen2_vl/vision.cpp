// SPDX-License-Identifier: Apache-2.0
#include "vision.h"

#include <cmath>

#include "host_index.h"
#include "processor.h"
#include "veomni/base/error.h"
#include "veomni/ops/activation.h"

namespace veomni::model {

namespace {

constexpr double kNormEps = 1e-6;
constexpr double kRopeTheta = 10000.0;

nn::Init weight_init(const Qwen2VlVisionConfig& c) { return nn::Init::normal(c.initializer_range); }

int64_t patch_width(const Qwen2VlVisionConfig& c) {
  return c.in_channels * c.temporal_patch_size * c.patch_size * c.patch_size;
}

void check_grids(const std::vector<Grid>& grids, int64_t merge, int64_t rows) {
  int64_t patches = 0;
  for (const auto& [t, h, w] : grids) {
    VEOMNI_CHECK_CONFIG(t >= 0 && h >= 0 && w >= 0 && h % merge == 0 && w % merge == 0,
                        "a picture of ", t, " x ", h, " x ", w,
                        " patches: rows and columns must be multiples of ", merge);
    patches += t * h * w;
  }
  VEOMNI_CHECK(patches == rows, rows, " rows of patches for pictures of ", patches,
               " patches in all");
}

// Row and column of every patch in the order of the features: token by token, its merge x merge patches together.
nn::Sequence patch_sequence(const std::vector<Grid>& grids, int64_t merge, int64_t rows,
                            torch::Device device) {
  auto seq = std::make_shared<nn::SequenceInfo>();
  std::vector<int64_t> row_of, column_of;
  row_of.reserve(2 * rows);
  column_of.reserve(rows);
  for (const auto& [t, h, w] : grids) {
    for (int64_t frame = 0; frame < t; ++frame) {
      for (int64_t token = 0; token < (h / merge) * (w / merge); ++token) {
        const int64_t top = token / (w / merge) * merge, left = token % (w / merge) * merge;
        for (int64_t patch = 0; patch < merge * merge; ++patch) {
          row_of.push_back(top + patch / merge);
          column_of.push_back(left + patch % merge);
        }
      }
      seq->cu_seqlens.push_back(static_cast<int32_t>(row_of.size()));
    }
  }
  row_of.insert(row_of.end(), column_of.begin(), column_of.end());
  seq->position_ids = host_index(row_of, {2, rows}, device);
  return seq;
}

}  // namespace

Qwen2VlPatchEmbed::Qwen2VlPatchEmbed(const Qwen2VlVisionConfig& c, const nn::ParamOptions& o)
    : proj_(patch_width(c), c.embed_dim, false, weight_init(c), o) {
  child("proj", proj_);
}

torch::Tensor Qwen2VlPatchEmbed::forward(const torch::Tensor& x_PF) {
  return run(x_PF, [this](const torch::Tensor& x_PF) { return proj_.forward(x_PF); });
}

Qwen2VlVisionBlock::Qwen2VlVisionBlock(const Qwen2VlVisionConfig& c, const nn::ParamOptions& o)
    : heads_(c.num_heads),
      head_dim_(c.head_dim()),
      quick_gelu_(c.quick_gelu),
      norm1_(c.embed_dim, kNormEps, o),
      norm2_(c.embed_dim, kNormEps, o),
      qkv_(c.embed_dim, 3 * c.embed_dim, true, weight_init(c), o),
      proj_(c.embed_dim, c.embed_dim, true, weight_init(c), o),
      fc1_(c.embed_dim, c.mlp_dim, true, weight_init(c), o),
      fc2_(c.mlp_dim, c.embed_dim, true, weight_init(c), o) {
  spec_.scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));
  spec_.causal = false;
  child("norm1", norm1_);
  child("norm2", norm2_);
  child("attn.qkv", qkv_);
  child("attn.proj", proj_);
  child("attn.core", attention_);
  child("mlp.fc1", fc1_);
  child("mlp.fc2", fc2_);
}

torch::Tensor Qwen2VlVisionBlock::attend(const torch::Tensor& x_PD, const ops::RopeTable& rope,
                                         const nn::Sequence& seq) {
  using Role = nn::AttentionCore::Role;
  auto& core = attention_.core();
  auto heads = ops::qk_norm_rope(qkv_.forward(x_PD), heads_, heads_, rope);
  auto q = core.exchange(std::move(heads.q_THK), Role::kQuery, seq);
  auto k = core.exchange(std::move(heads.k_TGK), Role::kKey, seq);
  auto v = core.exchange(std::move(heads.v_TGK), Role::kValue, seq);
  auto out_PHK = core.attend(std::move(q), std::move(k), std::move(v), seq, seq, spec_);
  return proj_.forward(out_PHK.reshape({x_PD.size(0), heads_ * head_dim_}));
}

torch::Tensor Qwen2VlVisionBlock::feed_forward(const torch::Tensor& x_PD) const {
  auto h_PI = fc1_.forward(x_PD);
  return fc2_.forward(quick_gelu_ ? ops::quick_gelu(h_PI) : ops::gelu(h_PI, false));
}

torch::Tensor Qwen2VlVisionBlock::forward(const torch::Tensor& x_PD, const ops::RopeTable& rope,
                                          const nn::Sequence& seq) {
  return run(x_PD, [this, rope, seq](const torch::Tensor& x_PD) {
    auto h_PD = x_PD + attend(norm1_.forward(x_PD), rope, seq);
    return h_PD + feed_forward(norm2_.forward(h_PD));
  });
}

Qwen2VlMerger::Qwen2VlMerger(const Qwen2VlVisionConfig& c, const nn::ParamOptions& o)
    : merged_(c.merge_size * c.merge_size),
      ln_q_(c.embed_dim, kNormEps, o),
      fc1_(merged_ * c.embed_dim, merged_ * c.embed_dim, true, weight_init(c), o),
      fc2_(merged_ * c.embed_dim, c.output_size, true, weight_init(c), o) {
  child("ln_q", ln_q_);
  child("fc1", fc1_);
  child("fc2", fc2_);
}

torch::Tensor Qwen2VlMerger::forward(const torch::Tensor& x_PD) {
  return run(x_PD, [this](const torch::Tensor& x_PD) {
    auto x_RM = ln_q_.forward(x_PD).view({x_PD.size(0) / merged_, merged_ * x_PD.size(1)});
    return fc2_.forward(ops::gelu(fc1_.forward(x_RM), false));
  });
}

Qwen2VlVision::Qwen2VlVision(Qwen2VlVisionConfig config, const nn::ParamOptions& o)
    : config_(std::move(config)), patch_embed_(config_, o), merger_(config_, o) {
  const auto per_axis = ops::default_inv_freq(kRopeTheta, config_.head_dim() / 2);
  for (int axis : {0, 1}) {
    inv_freq_.insert(inv_freq_.end(), per_axis.begin(), per_axis.end());
    axis_of_freq_.insert(axis_of_freq_.end(), per_axis.size(), axis);
  }
  child("patch_embed", patch_embed_);
  for (int64_t i = 0; i < config_.depth; ++i) {
    blocks_.push_back(std::make_unique<Qwen2VlVisionBlock>(config_, o));
    child("blocks." + std::to_string(i), *blocks_.back());
  }
  child("merger", merger_);
}

torch::Tensor Qwen2VlVision::lm_encode(const torch::Tensor& features_PF,
                                       const std::vector<Grid>& grids) {
  const int64_t P = features_PF.size(0);
  check_grids(grids, config_.merge_size, P);
  const nn::Sequence seq = patch_sequence(grids, config_.merge_size, P, features_PF.device());
  const auto rope =
      ops::rope_table(seq->position_ids, inv_freq_, axis_of_freq_, features_PF.scalar_type());
  auto h_PD = patch_embed_.forward(features_PF);
  for (auto& block : blocks_) h_PD = block->forward(h_PD, rope, seq);
  return merger_.forward(h_PD);
}

int64_t Qwen2VlVision::feature_width() const { return patch_width(config_); }

int64_t Qwen2VlVision::num_tokens(const Grid& grid) const {
  return grid[0] * grid[1] * grid[2] / (config_.merge_size * config_.merge_size);
}

Grid Qwen2VlVision::token_grid(const Grid& grid) const {
  return {grid[0], grid[1] / config_.merge_size, grid[2] / config_.merge_size};
}

bool Qwen2VlVision::is_projector(const std::string& parameter) const {
  return parameter.starts_with("merger.");
}

std::unique_ptr<media::Processor> Qwen2VlVision::make_processor(
    const nlohmann::json& preprocessor) const {
  return make_qwen2_vl_processor(preprocessor, config_.patch_size, config_.temporal_patch_size,
                                 config_.merge_size);
}

double Qwen2VlVision::flops(const std::vector<Grid>& grids) const {
  const auto& c = config_;
  const auto width = static_cast<double>(c.embed_dim);
  const double merged = width * static_cast<double>(c.merge_size * c.merge_size);
  const double block = width * (4 * width + 2 * static_cast<double>(c.mlp_dim));
  const auto depth = static_cast<double>(c.depth);
  double flops = 0;
  for (const Grid& grid : grids) {
    const auto frames = static_cast<double>(grid[0]), n = static_cast<double>(grid[1] * grid[2]);
    flops += 2 * frames * n * (static_cast<double>(patch_width(c)) * width + depth * block) +
             depth * frames * 4 * n * n * width +
             2 * static_cast<double>(num_tokens(grid)) * merged *
                 (merged + static_cast<double>(c.output_size));
  }
  return flops;
}

}  // namespace veomni::model
