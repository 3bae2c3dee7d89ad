// SPDX-License-Identifier: Apache-2.0
/// The config.json keys that decoder-only language models share.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace veomni::model {

/// What the common decoder needs of a config.json; see causal_lm.h for what each switch does.
struct CausalConfig {
  int64_t vocab_size, hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim;
  double rms_norm_eps, initializer_range, rope_theta;
  bool tie_word_embeddings;
  bool qkv_bias = false, out_bias = false;
  bool qk_norm = false;
  /// M-RoPE: which of the 3 rows of position ids turns each rotary frequency. Empty: one row turns all.
  std::vector<int> axis_of_freq;
  /// Tokens a layer's query sees to its left, itself included; 0: all.
  std::vector<int64_t> window_of_layer;
  nlohmann::json source;  ///< the whole config.json
};

/// What a model takes where config.json is silent.
struct CausalDefaults {
  int64_t head_dim = 0;  ///< 0: hidden_size / num_attention_heads
  double rms_norm_eps = 1e-6, rope_theta = 10000.0;
  int64_t max_window_layers = 28;
};

/// Reads what all these models say in the same keys; biases and norms are left to the model.
/// @param model  its name, for error texts
/// @throws ConfigError naming the file, the key and the value that does not fit
CausalConfig read_causal_config(const nlohmann::json& json, const std::string& where,
                                const std::string& model, const CausalDefaults& defaults = {});

}  // namespace veomni::model
