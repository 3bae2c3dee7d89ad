// SPDX-License-Identifier: Apache-2.0
#include "qwen3.h"
#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"

namespace veomni::model {

namespace {

// Newer files nest rope settings in rope_parameters; older ones have rope_theta and rope_scaling at the top.
double read_rope_theta(const nlohmann::json& config, const std::string& where) {
  const nlohmann::json* rope = &config;
  if (auto nested = config.find("rope_parameters"); nested != config.end() && nested->is_object())
    rope = &*nested;
  std::string type = "default";
  if (rope != &config) {
    type = io::get_or(*rope, "rope_type", std::string("default"), where);
  } else if (auto scaling = config.find("rope_scaling");
             scaling != config.end() && scaling->is_object()) {
    type = io::get_or(*scaling, "rope_type",
                      io::get_or(*scaling, "type", std::string("default"), where), where);
  }
  VEOMNI_CHECK_CONFIG(type == "default", where, ": rope_type '", type,
                      "' is not supported by qwen3 (supported: default)");
  return io::get_or(*rope, "rope_theta", 10000.0, where);
}

std::vector<int64_t> read_windows(const nlohmann::json& config, int64_t layers,
                                  const std::string& where) {
  std::vector<int64_t> windows(layers, 0);
  const bool use = io::get_or(config, "use_sliding_window", false, where);
  const auto window = config.find("sliding_window");
  if (!use || window == config.end() || window->is_null()) return windows;
  const int64_t size = io::require_int(config, "sliding_window", where);
  VEOMNI_CHECK_CONFIG(size > 0, where, ": sliding_window must be more than 0, got ", size);
  if (auto types = config.find("layer_types"); types != config.end() && types->is_array()) {
    VEOMNI_CHECK_CONFIG(static_cast<int64_t>(types->size()) == layers, where, ": layer_types has ",
                        types->size(), " entries for ", layers, " layers");
    for (int64_t i = 0; i < layers; ++i) windows[i] = (*types)[i] == "sliding_attention" ? size : 0;
  } else {
    for (int64_t i = io::get_or(config, "max_window_layers", int64_t{28}, where); i < layers; ++i)
      windows[i] = size;
  }
  return windows;
}

}  // namespace

Qwen3Config Qwen3Config::from_json(const nlohmann::json& json, const std::string& where) {
  Qwen3Config c;
  c.vocab_size = io::require_int(json, "vocab_size", where);
  c.hidden_size = io::require_int(json, "hidden_size", where);
  c.intermediate_size = io::require_int(json, "intermediate_size", where);
  c.num_layers = io::require_int(json, "num_hidden_layers", where);
  c.num_heads = io::require_int(json, "num_attention_heads", where);
  c.num_kv_heads = io::get_or(json, "num_key_value_heads", c.num_heads, where);
  for (auto [name, value] : {std::pair{"vocab_size", c.vocab_size},
                             {"hidden_size", c.hidden_size},
                             {"intermediate_size", c.intermediate_size},
                             {"num_hidden_layers", c.num_layers},
                             {"num_attention_heads", c.num_heads},
                             {"num_key_value_heads", c.num_kv_heads}}) {
    VEOMNI_CHECK_CONFIG(value > 0, where, ": ", name, " must be more than 0, got ", value);
  }
  c.head_dim =
      io::get_or(json, "head_dim", 128, where);  // what transformers takes where the key is absent
  c.rms_norm_eps = io::get_or(json, "rms_norm_eps", 1e-6, where);
  c.initializer_range = io::get_or(json, "initializer_range", 0.02, where);
  c.tie_word_embeddings = io::get_or(json, "tie_word_embeddings", false, where);
  c.attention_bias = io::get_or(json, "attention_bias", false, where);
  c.rope_theta = read_rope_theta(json, where);
  c.window_of_layer = read_windows(json, c.num_layers, where);
  VEOMNI_CHECK_CONFIG(c.num_heads % c.num_kv_heads == 0, where,
                      ": num_attention_heads=", c.num_heads,
                      " is not a multiple of num_key_value_heads=", c.num_kv_heads);
  VEOMNI_CHECK_CONFIG(c.head_dim > 0 && c.head_dim % 2 == 0, where,
                      ": head_dim must be even for rotary embeddings, got ", c.head_dim);
  const auto act = io::get_or(json, "hidden_act", std::string("silu"), where);
  VEOMNI_CHECK_CONFIG(act == "silu", where, ": hidden_act '", act,
                      "' is not supported by qwen3 (supported: silu)");
  const double dropout = io::get_or(json, "attention_dropout", 0.0, where);
  VEOMNI_CHECK_CONFIG(dropout == 0, where, ": attention_dropout=", dropout,
                      " is not supported by qwen3; set it to 0");
  c.source = json;
  return c;
}

io::RuleSet Qwen3::rules() const {
  std::vector<io::TensorRule> rules = {
      {.param = "embedding.weight", .files = {"model.embed_tokens.weight"}},
      {.param = "layers.{}.attention_norm.weight",
       .files = {"model.layers.{}.input_layernorm.weight"}},
      {.param = "layers.{}.attention.q_norm.weight",
       .files = {"model.layers.{}.self_attn.q_norm.weight"}},
      {.param = "layers.{}.attention.k_norm.weight",
       .files = {"model.layers.{}.self_attn.k_norm.weight"}},
      {.param = "layers.{}.mlp_norm.weight",
       .files = {"model.layers.{}.post_attention_layernorm.weight"}},
      {.param = "layers.{}.mlp.gate_up.weight",
       .files = {"model.layers.{}.mlp.gate_proj.weight", "model.layers.{}.mlp.up_proj.weight"},
       .combine = io::Combine::kConcat},
      {.param = "layers.{}.mlp.down.weight", .files = {"model.layers.{}.mlp.down_proj.weight"}},
      {.param = "norm.weight", .files = {"model.norm.weight"}},
  };
  for (const std::string leaf :
       {"q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight"}) {
    rules.push_back(
        {.param = "layers.{}.attention." + leaf, .files = {"model.layers.{}.self_attn." + leaf}});
  }
  for (const std::string leaf : {"q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"}) {
    if (!config_.attention_bias) break;
    rules.push_back(
        {.param = "layers.{}.attention." + leaf, .files = {"model.layers.{}.self_attn." + leaf}});
  }
  // Older exporters kept the rotary table; some write the tied head too.
  std::vector<std::string> ignored = {"model.layers.*.self_attn.rotary_emb.inv_freq"};
  if (config_.tie_word_embeddings) {
    ignored.push_back("lm_head.weight");
  } else {
    rules.push_back({.param = "lm_head.weight", .files = {"lm_head.weight"}});
  }
  return io::RuleSet(std::move(rules), std::move(ignored));
}

}  // namespace veomni::model
