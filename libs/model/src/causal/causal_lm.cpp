// SPDX-License-Identifier: Apache-2.0
#include "causal_lm.h"

#include <algorithm>
#include <cmath>

#include "veomni/base/error.h"
#include "veomni/ops/linear.h"
#include "veomni/ops/loss.h"

namespace veomni::model {

namespace {
nn::Init weight_init(const CausalConfig& config) {
  return nn::Init::normal(config.initializer_range);
}

// The three projections are one parameter here and three tensors in the files.
void add_attention_rules(const CausalConfig& c, std::vector<io::TensorRule>& rules) {
  const std::string file = "model.layers.{}.self_attn.", param = "layers.{}.attention.";
  const int64_t q_rows = c.num_heads * c.head_dim, kv_rows = c.num_kv_heads * c.head_dim;
  const auto add_qkv = [&](const std::string& leaf) {
    rules.push_back(
        {.param = param + "qkv" + leaf,
         .files = {file + "q_proj" + leaf, file + "k_proj" + leaf, file + "v_proj" + leaf},
         .combine = io::Combine::kConcat,
         .rows = {q_rows, kv_rows, kv_rows}});
  };
  const auto add_same = [&](const std::string& leaf) {
    rules.push_back({.param = param + leaf, .files = {file + leaf}});
  };
  add_qkv(".weight");
  if (c.qkv_bias) add_qkv(".bias");
  add_same("o_proj.weight");
  if (c.out_bias) add_same("o_proj.bias");
  if (!c.qk_norm) return;
  add_same("q_norm.weight");
  add_same("k_norm.weight");
}

}  // namespace

CausalAttention::CausalAttention(const CausalConfig& c, int64_t window, const nn::ParamOptions& o)
    : heads_(c.num_heads),
      kv_heads_(c.num_kv_heads),
      head_dim_(c.head_dim),
      qkv_(c.hidden_size, (c.num_heads + 2 * c.num_kv_heads) * c.head_dim, c.qkv_bias,
           weight_init(c), o),
      o_proj_(c.num_heads * c.head_dim, c.hidden_size, c.out_bias, weight_init(c), o) {
  spec_.scale = 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  if (window > 0) spec_.window_left = window - 1;
  child("qkv", qkv_);
  child("o_proj", o_proj_);
  if (c.qk_norm) {
    child("q_norm", q_norm_.emplace(c.head_dim, c.rms_norm_eps, o));
    child("k_norm", k_norm_.emplace(c.head_dim, c.rms_norm_eps, o));
  }
  child("core", attention_);
}

ops::HeadNorms CausalAttention::norms() const {
  if (!q_norm_) return {};
  return {q_norm_->weight().value(), k_norm_->weight().value(), q_norm_->eps()};
}

torch::Tensor CausalAttention::forward(const torch::Tensor& x_TD, const ops::RopeTable& rope,
                                       const nn::Sequence& seq, const torch::Tensor& residual_TD) {
  using Role = nn::AttentionCore::Role;
  auto& core = attention_.core();
  auto heads = ops::qk_norm_rope(qkv_.forward(x_TD), heads_, kv_heads_, rope, norms());
  auto q = core.exchange(std::move(heads.q_THK), Role::kQuery, seq);
  auto k = core.exchange(std::move(heads.k_TGK), Role::kKey, seq);
  auto v = core.exchange(std::move(heads.v_TGK), Role::kValue, seq);
  auto out_THK = core.attend(std::move(q), std::move(k), std::move(v), seq, seq, spec_);
  return o_proj_.forward(out_THK.reshape({x_TD.size(0), heads_ * head_dim_}), residual_TD);
}

CausalLayer::CausalLayer(const CausalConfig& c, int64_t window, const nn::ParamOptions& o)
    : attention_norm_(c.hidden_size, c.rms_norm_eps, o),
      mlp_norm_(c.hidden_size, c.rms_norm_eps, o),
      attention_(c, window, o),
      mlp_(c.hidden_size, c.intermediate_size, weight_init(c), o) {
  child("attention_norm", attention_norm_);
  child("attention", attention_);
  child("mlp_norm", mlp_norm_);
  child("mlp", mlp_);
}

torch::Tensor CausalLayer::forward(const torch::Tensor& x_TD, const ops::RopeTable& rope,
                                   const nn::Sequence& seq) {
  return run(x_TD, [this, rope, seq](const torch::Tensor& x_TD) {
    auto h_TD = attention_.forward(attention_norm_.forward(x_TD), rope, seq, x_TD);
    return mlp_.forward(mlp_norm_.forward(h_TD), h_TD);
  });
}

CausalLm::CausalLm(CausalConfig config, const nn::ParamOptions& o)
    : config_(std::move(config)),
      inv_freq_(ops::default_inv_freq(config_.rope_theta, config_.head_dim)),
      embedding_(config_.vocab_size, config_.hidden_size, weight_init(config_), o),
      norm_(config_.hidden_size, config_.rms_norm_eps, o) {
  child("embedding", embedding_);
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    layers_.push_back(std::make_unique<CausalLayer>(config_, config_.window_of_layer[i], o));
    child("layers." + std::to_string(i), *layers_.back());
  }
  child("norm", norm_);
  if (config_.tie_word_embeddings) {
    head_weight_ = embedding_.weight();
  } else {
    head_weight_ =
        parameter("lm_head.weight", nn::Parameter({config_.vocab_size, config_.hidden_size}, o,
                                                  weight_init(config_), nn::kTagHead));
  }
}

torch::Tensor CausalLm::embed(const torch::Tensor& ids_T) { return embedding_.forward(ids_T); }

ops::RopeTable CausalLm::rope_of(const nn::Sequence& seq, torch::ScalarType dtype) const {
  const auto& positions = seq->position_ids;
  if (positions.dim() == 1) return ops::rope_table(positions, inv_freq_, dtype);
  VEOMNI_CHECK(positions.dim() == 2 && positions.size(0) == position_axes(),
               "position ids of shape ", positions.sizes(), " for a model that reads ",
               position_axes(), " rows of them");
  return ops::rope_table(positions, inv_freq_, config_.axis_of_freq, dtype);
}

torch::Tensor CausalLm::forward(const torch::Tensor& x_TD, const nn::Sequence& seq) {
  const auto rope = rope_of(seq, x_TD.scalar_type());
  auto h_TD = x_TD;
  for (auto& layer : layers_) h_TD = layer->forward(h_TD, rope, seq);
  return norm_.forward(h_TD);
}

torch::Tensor CausalLm::lm_head(const torch::Tensor& hidden_RD) {
  return ops::linear(hidden_RD, head_weight_.value(), {}, {}, head_weight_.packed());
}

TokenLoss CausalLm::lm_loss(const torch::Tensor& hidden_TD, const torch::Tensor& labels_T,
                            const torch::Tensor& weights_T) {
  auto loss = ops::linear_cross_entropy(hidden_TD, head_weight_.value(), labels_T, weights_T, 0, {},
                                        head_weight_.packed());
  return {loss.total, loss.token_T};
}

torch::Tensor CausalLm::token_losses(const torch::Tensor& hidden_TD,
                                     const torch::Tensor& labels_T) {
  return ops::linear_cross_entropy_per_token(hidden_TD, head_weight_.value(), labels_T,
                                             head_weight_.packed());
}

io::RuleSet CausalLm::rules() const {
  std::vector<io::TensorRule> rules = {
      {.param = "embedding.weight", .files = {"model.embed_tokens.weight"}},
      {.param = "layers.{}.attention_norm.weight",
       .files = {"model.layers.{}.input_layernorm.weight"}},
      {.param = "layers.{}.mlp_norm.weight",
       .files = {"model.layers.{}.post_attention_layernorm.weight"}},
      {.param = "layers.{}.mlp.gate_up.weight",
       .files = {"model.layers.{}.mlp.gate_proj.weight", "model.layers.{}.mlp.up_proj.weight"},
       .combine = io::Combine::kConcat},
      {.param = "layers.{}.mlp.down.weight", .files = {"model.layers.{}.mlp.down_proj.weight"}},
      {.param = "norm.weight", .files = {"model.norm.weight"}},
  };
  add_attention_rules(config_, rules);
  // Older exporters kept the rotary table; some write the tied head too.
  std::vector<std::string> ignored = {"model.layers.*.self_attn.rotary_emb.inv_freq"};
  if (config_.tie_word_embeddings) {
    ignored.push_back("lm_head.weight");
  } else {
    rules.push_back({.param = "lm_head.weight", .files = {"lm_head.weight"}});
  }
  return io::RuleSet(std::move(rules), std::move(ignored));
}

double CausalLm::weight_flops_per_token() const {
  const auto& c = config_;
  const double attention =
      static_cast<double>(c.hidden_size * c.head_dim * (2 * c.num_heads + 2 * c.num_kv_heads));
  const double mlp = 3.0 * static_cast<double>(c.hidden_size * c.intermediate_size);
  return 2.0 * (static_cast<double>(c.num_layers) * (attention + mlp) +
                static_cast<double>(c.vocab_size * c.hidden_size));
}

double CausalLm::attention_flops(int64_t n) const {
  double flops = 0;
  for (int64_t window : config_.window_of_layer) {
    const int64_t w = window > 0 ? std::min(window, n) : n;
    // Keys seen by all queries of one causal document: a triangle up to the window, a band after it.
    const double pairs = 0.5 * static_cast<double>(w) * static_cast<double>(w + 1) +
                         static_cast<double>((n - w) * w);
    flops += 4.0 * pairs * static_cast<double>(config_.num_heads * config_.head_dim);
  }
  return flops;
}

}  // namespace veomni::model
