// SPDX-License-Identifier: Apache-2.0
#include "qwen2.h"
#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"

namespace veomni::model {

namespace {

using nlohmann::json;

// Qwen2-VL's own defaults are written out, since Qwen2ForCausalLM has others.
json as_qwen2(json config, const CausalConfig& c, const CausalDefaults& defaults) {
  for (const char* key : {"vision_config", "auto_map"}) config.erase(key);
  config["model_type"] = "qwen2";
  config["architectures"] = {"Qwen2ForCausalLM"};
  config["rms_norm_eps"] = c.rms_norm_eps;
  config["tie_word_embeddings"] = c.tie_word_embeddings;
  config["num_key_value_heads"] = c.num_kv_heads;
  if (!io::has_value(config, "max_window_layers"))
    config["max_window_layers"] = defaults.max_window_layers;
  json sections = {0, 0, 0};
  for (int axis : c.axis_of_freq) sections[axis] = sections[axis].get<int64_t>() + 1;
  config.erase("rope_scaling");
  config["rope_parameters"] = {
      {"rope_type", "default"}, {"rope_theta", c.rope_theta}, {"mrope_section", sections}};
  return config;
}

}  // namespace

Qwen2Config Qwen2Config::from_json(const json& json, const std::string& where) {
  const bool of_qwen2_vl =
      io::get_or(json, "model_type", std::string("qwen2"), where).starts_with("qwen2_vl");
  const CausalDefaults defaults =
      of_qwen2_vl ? CausalDefaults{.rms_norm_eps = 1e-5, .rope_theta = 1e6, .max_window_layers = 80}
                  : CausalDefaults{};
  Qwen2Config c{read_causal_config(json, where, "qwen2", defaults)};
  c.qkv_bias = true;
  if (!of_qwen2_vl) return c;
  VEOMNI_CHECK_CONFIG(!c.axis_of_freq.empty(), where,
                      ": Qwen2-VL needs mrope_section in its rope settings");
  c.source = as_qwen2(json, c, defaults);
  return c;
}

}  // namespace veomni::model
