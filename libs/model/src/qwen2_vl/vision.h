// SPDX-License-Identifier: Apache-2.0
/// Qwen2-VL's vision tower (arXiv 2409.12191, section 2): patches of any picture size, rotary embeddings by row and column,
/// attention within each frame, and a merger that makes one token of merge² neighbouring patches.
#pragma once

#include <memory>

#include "veomni/model/encoder.h"
#include "veomni/nn/attention_core.h"
#include "veomni/nn/layers.h"
#include "veomni/nn/unit.h"
#include "veomni/ops/qk_norm_rope.h"

namespace veomni::model {

/// What the architecture needs of config.json.
struct Qwen2VlVisionConfig {
  int64_t depth, embed_dim, num_heads, mlp_dim, output_size;
  int64_t in_channels, patch_size, temporal_patch_size, merge_size;
  double initializer_range;
  bool quick_gelu;        ///< else the exact GELU
  nlohmann::json source;  ///< the whole config.json

  int64_t head_dim() const { return embed_dim / num_heads; }
  static Qwen2VlVisionConfig from_json(const nlohmann::json& config, const std::string& where);
};

// P patches  F values of a patch  D width  H heads  K head dim  R tokens = P / merge²  O the foundation's width

class Qwen2VlPatchEmbed : public nn::Unit {
 public:
  Qwen2VlPatchEmbed(const Qwen2VlVisionConfig& config, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_PF);

 private:
  nn::Linear proj_;  // a convolution whose stride is its kernel
};

class Qwen2VlVisionBlock : public nn::Unit {
 public:
  Qwen2VlVisionBlock(const Qwen2VlVisionConfig& config, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_PD, const ops::RopeTable& rope,
                        const nn::Sequence& seq);

 private:
  torch::Tensor attend(const torch::Tensor& x_PD, const ops::RopeTable& rope,
                       const nn::Sequence& seq);
  torch::Tensor feed_forward(const torch::Tensor& x_PD) const;

  int64_t heads_, head_dim_;
  bool quick_gelu_;
  nn::AttentionSpec spec_;
  nn::LayerNorm norm1_, norm2_;
  nn::Linear qkv_, proj_, fc1_, fc2_;
  nn::AttentionSlot attention_;
};

class Qwen2VlMerger : public nn::Unit {
 public:
  Qwen2VlMerger(const Qwen2VlVisionConfig& config, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_PD);

 private:
  int64_t merged_;  // patches in a token
  nn::LayerNorm ln_q_;
  nn::Linear fc1_, fc2_;
};

/// Features: Hugging Face's pixel_values [P, F], F = channels · temporal_patch · patch², the merge² patches of a token one
/// after another. Grids: {frames, rows, columns} in patches.
class Qwen2VlVision final : public Encoder {
 public:
  Qwen2VlVision(Qwen2VlVisionConfig config, const nn::ParamOptions& options);

  torch::Tensor lm_encode(const torch::Tensor& features_PF,
                          const std::vector<Grid>& grids) override;

  int64_t feature_width() const override;
  int64_t output_size() const override { return config_.output_size; }
  int64_t num_tokens(const Grid& grid) const override;
  Grid token_grid(const Grid& grid) const override;
  const nlohmann::json& config() const override { return config_.source; }
  io::RuleSet rules() const override;
  bool is_projector(const std::string& parameter) const override;
  std::unique_ptr<media::Processor> make_processor(
      const nlohmann::json& preprocessor) const override;
  double flops(const std::vector<Grid>& grids) const override;

 private:
  Qwen2VlVisionConfig config_;
  std::vector<double> inv_freq_;   // of rows, then the same of columns
  std::vector<int> axis_of_freq_;  // 0: row, 1: column
  Qwen2VlPatchEmbed patch_embed_;
  std::vector<std::unique_ptr<Qwen2VlVisionBlock>> blocks_;
  Qwen2VlMerger merger_;
};

}  // namespace veomni::model
