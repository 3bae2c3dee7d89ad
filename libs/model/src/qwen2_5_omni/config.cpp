// SPDX-License-Identifier: Apache-2.0
#include "audio.h"
#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"

namespace veomni::model {

Qwen2_5OmniAudioConfig Qwen2_5OmniAudioConfig::from_json(const nlohmann::json& json,
                                                         const std::string& where) {
  Qwen2_5OmniAudioConfig c;
  c.num_layers = io::require_int(json, "encoder_layers", where);
  c.num_heads = io::require_int(json, "encoder_attention_heads", where);
  c.width = io::require_int(json, "d_model", where);
  c.mlp_dim = io::require_int(json, "encoder_ffn_dim", where);
  c.output_size = io::require_int(json, "output_dim", where);
  c.num_mel_bins = io::get_or(json, "num_mel_bins", 128, where);
  c.n_window = io::get_or(json, "n_window", 100, where);
  c.initializer_range = io::get_or(json, "initializer_range", 0.02, where);
  io::check_positive({{"encoder_layers", c.num_layers},
                      {"encoder_attention_heads", c.num_heads},
                      {"d_model", c.width},
                      {"encoder_ffn_dim", c.mlp_dim},
                      {"output_dim", c.output_size},
                      {"num_mel_bins", c.num_mel_bins},
                      {"n_window", c.n_window}},
                     where);
  VEOMNI_CHECK_CONFIG(c.width % c.num_heads == 0, where, ": d_model=", c.width,
                      " is not a multiple of encoder_attention_heads=", c.num_heads);
  VEOMNI_CHECK_CONFIG(c.width % 2 == 0 && c.width > 2, where,
                      ": d_model must be even and more than 2 for sinusoidal positions, got ",
                      c.width);
  const int64_t positions = io::get_or(json, "max_source_positions", 1500, where);
  VEOMNI_CHECK_CONFIG(c.n_window <= positions, where, ": n_window=", c.n_window,
                      " is more than max_source_positions=", positions);
  const auto act = io::get_or(json, "activation_function", std::string("gelu"), where);
  VEOMNI_CHECK_CONFIG(act == "gelu", where, ": activation_function '", act,
                      "' is not supported by qwen2_5_omni_audio (supported: gelu)");
  c.source = json;
  // A part of a whole model's config has no architecture of its own.
  c.source["model_type"] = "qwen2_5_omni_audio_encoder";
  c.source["architectures"] = {"Qwen2_5OmniAudioEncoder"};
  return c;
}

io::RuleSet Qwen2_5OmniAudio::rules() const {
  const auto& c = config_;
  std::vector<io::TensorRule> rules = {
      {.param = "stem.conv1.weight",
       .files = {"conv1.weight"},
       .reshape = {c.width, c.num_mel_bins, -1}},
      {.param = "stem.conv1.bias", .files = {"conv1.bias"}},
      {.param = "stem.conv2.weight", .files = {"conv2.weight"}, .reshape = {c.width, c.width, -1}},
      {.param = "stem.conv2.bias", .files = {"conv2.bias"}},
      {.param = "layers.{}.attention.k_proj.weight",
       .files = {"layers.{}.self_attn.k_proj.weight"}},
      {.param = "output.bos_eos.weight", .files = {"audio_bos_eos_token.weight"}},
  };
  const auto add = [&](const std::string& param, const std::string& file) {
    for (const std::string leaf : {".weight", ".bias"})
      rules.push_back({.param = param + leaf, .files = {file + leaf}});
  };
  for (const std::string part : {"q_proj", "v_proj", "out_proj"})
    add("layers.{}.attention." + part, "layers.{}.self_attn." + part);
  add("layers.{}.attention_norm", "layers.{}.self_attn_layer_norm");
  add("layers.{}.mlp_norm", "layers.{}.final_layer_norm");
  add("layers.{}.mlp.fc1", "layers.{}.fc1");
  add("layers.{}.mlp.fc2", "layers.{}.fc2");
  add("output.norm", "ln_post");
  add("output.proj", "proj");
  return io::RuleSet(std::move(rules));
}

}  // namespace veomni::model
