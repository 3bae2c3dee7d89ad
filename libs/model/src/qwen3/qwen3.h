// SPDX-License-Identifier: Apache-2.0
/// Qwen3 dense (Qwen3 Technical Report, arXiv 2505.09388, section 2): pre-norm decoder, grouped-query attention with
/// RMSNorm on each head of q and k, rotary embeddings, SwiGLU.
#pragma once

#include <memory>

#include "veomni/model/foundation.h"
#include "veomni/nn/attention_core.h"
#include "veomni/nn/layers.h"
#include "veomni/nn/unit.h"
#include "veomni/ops/rope.h"

namespace veomni::model {

/// What the architecture needs of config.json.
struct Qwen3Config {
  int64_t vocab_size, hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim;
  double rms_norm_eps, rope_theta, initializer_range;
  bool tie_word_embeddings, attention_bias;
  std::vector<int64_t>
      window_of_layer;    ///< tokens a layer's query sees to its left, itself included; 0: all
  nlohmann::json source;  ///< the whole config.json

  static Qwen3Config from_json(const nlohmann::json& config, const std::string& where);
};

// T packed tokens  D model width  H query heads  G kv heads  K head dim

class Qwen3Attention : public nn::Module {
 public:
  Qwen3Attention(const Qwen3Config& config, int64_t window, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_TD, const ops::RopeTable& rope,
                        const nn::Sequence& seq);

 private:
  int64_t heads_, kv_heads_, head_dim_;
  nn::AttentionSpec spec_;
  nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
  nn::RmsNorm q_norm_, k_norm_;
  nn::AttentionSlot attention_;
};

class Qwen3Layer : public nn::Unit {
 public:
  Qwen3Layer(const Qwen3Config& config, int64_t window, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_TD, const ops::RopeTable& rope,
                        const nn::Sequence& seq);

 private:
  nn::RmsNorm attention_norm_, mlp_norm_;
  Qwen3Attention attention_;
  nn::GatedMlp mlp_;
};

class Qwen3 final : public Foundation {
 public:
  Qwen3(Qwen3Config config, const nn::ParamOptions& options);

  torch::Tensor embed(const torch::Tensor& ids_T) override;
  torch::Tensor forward(const torch::Tensor& x_TD, const nn::Sequence& seq) override;
  torch::Tensor lm_head(const torch::Tensor& hidden_RD) override;
  torch::Tensor lm_loss(const torch::Tensor& hidden_TD, const torch::Tensor& labels_T,
                        double scale) override;
  torch::Tensor token_losses(const torch::Tensor& hidden_TD,
                             const torch::Tensor& labels_T) override;

  const nlohmann::json& config() const override { return config_.source; }
  int64_t hidden_size() const override { return config_.hidden_size; }
  int64_t vocab_size() const override { return config_.vocab_size; }
  io::RuleSet rules() const override;
  double weight_flops_per_token() const override;
  double attention_flops(int64_t n) const override;

 private:
  Qwen3Config config_;
  std::vector<double> inv_freq_;
  nn::Embedding embedding_;
  std::vector<std::unique_ptr<Qwen3Layer>> layers_;
  nn::RmsNorm norm_;
  nn::Parameter head_weight_;  // the embedding's handle when tied
};

}  // namespace veomni::model
