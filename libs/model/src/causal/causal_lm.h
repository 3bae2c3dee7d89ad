// SPDX-License-Identifier: Apache-2.0
/// The decoder-only transformer that Llama's descendants share (LLaMA, arXiv 2302.13971, section 2.2): pre-norm,
/// grouped-query attention, rotary embeddings, SwiGLU. What sets one model apart from the next is a switch of
/// CausalConfig: biases of the projections, RMSNorm on each head of q and k, sliding windows, and M-RoPE
/// (Qwen2-VL, arXiv 2409.12191, section 2.1), where time, height and width each turn their own share of frequencies.
#pragma once

#include <memory>
#include <optional>

#include "causal_config.h"
#include "veomni/model/foundation.h"
#include "veomni/nn/attention_core.h"
#include "veomni/nn/layers.h"
#include "veomni/nn/unit.h"
#include "veomni/ops/qk_norm_rope.h"

namespace veomni::model {

// T packed tokens  D model width  H query heads  G kv heads  K head dim  R rows asked for

class CausalAttention : public nn::Module {
 public:
  CausalAttention(const CausalConfig& config, int64_t window, const nn::ParamOptions& options);
  /// residual_TD + attention(x_TD)
  torch::Tensor forward(const torch::Tensor& x_TD, const ops::RopeTable& rope,
                        const nn::Sequence& seq, const torch::Tensor& residual_TD);

 private:
  ops::HeadNorms norms() const;

  int64_t heads_, kv_heads_, head_dim_;
  nn::AttentionSpec spec_;
  nn::Linear qkv_, o_proj_;
  std::optional<nn::RmsNorm> q_norm_, k_norm_;
  nn::AttentionSlot attention_;
};

class CausalLayer : public nn::Unit {
 public:
  CausalLayer(const CausalConfig& config, int64_t window, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_TD, const ops::RopeTable& rope,
                        const nn::Sequence& seq);

 private:
  nn::RmsNorm attention_norm_, mlp_norm_;
  CausalAttention attention_;
  nn::GatedMlp mlp_;
};

class CausalLm : public Foundation {
 public:
  CausalLm(CausalConfig config, const nn::ParamOptions& options);

  torch::Tensor embed(const torch::Tensor& ids_T) override;
  /// With M-RoPE, position ids [T] stand for three equal rows: text alone.
  torch::Tensor forward(const torch::Tensor& x_TD, const nn::Sequence& seq) override;
  torch::Tensor lm_head(const torch::Tensor& hidden_RD) override;
  TokenLoss lm_loss(const torch::Tensor& hidden_TD, const torch::Tensor& labels_T,
                    const torch::Tensor& weights_T) override;
  torch::Tensor token_losses(const torch::Tensor& hidden_TD,
                             const torch::Tensor& labels_T) override;

  const nlohmann::json& config() const override { return config_.source; }
  int64_t hidden_size() const override { return config_.hidden_size; }
  int64_t vocab_size() const override { return config_.vocab_size; }
  int64_t position_axes() const override { return config_.axis_of_freq.empty() ? 1 : 3; }
  io::RuleSet rules() const override;
  double weight_flops_per_token() const override;
  double attention_flops(int64_t n) const override;

 private:
  ops::RopeTable rope_of(const nn::Sequence& seq, torch::ScalarType dtype) const;

  CausalConfig config_;
  std::vector<double> inv_freq_;
  nn::Embedding embedding_;
  std::vector<std::unique_ptr<CausalLayer>> layers_;
  nn::RmsNorm norm_;
  nn::Parameter head_weight_;  // the embedding's handle when tied
};

}  // namespace veomni::model
