// SPDX-License-Identifier: Apache-2.0
#include "config.h"

#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"

namespace veomni::model {

namespace {

constexpr int64_t kMostLevels = 12;

std::vector<int64_t> read_multipliers(const nlohmann::json& json, const std::string& where) {
  if (!io::has_value(json, "channel_multiplier")) return {1, 1, 2, 2, 4};
  const auto& values = io::require_array(json, "channel_multiplier", where);
  VEOMNI_CHECK_CONFIG(!values.empty() && values.size() <= kMostLevels, where,
                      ": channel_multiplier must hold 1 to ", kMostLevels, " numbers, got ",
                      values.size());
  std::vector<int64_t> multipliers;
  for (const auto& value : values) {
    VEOMNI_CHECK_CONFIG(value.is_number_integer() && value.get<int64_t>() > 0, where,
                        ": channel_multiplier must hold whole numbers of at least 1, got ",
                        io::brief_json(values));
    multipliers.push_back(value.get<int64_t>());
  }
  return multipliers;
}

void check_fixed(const nlohmann::json& json, const std::string& where) {
  for (const char* name : {"in_channels", "out_channels"}) {
    const int64_t value = io::get_or(json, name, kJanusChannels, where);
    VEOMNI_CHECK_CONFIG(value == kJanusChannels, where, ": ", name, "=", value,
                        " is not supported by janus_vq16: its pictures have 3 channels");
  }
  VEOMNI_CHECK_CONFIG(!io::get_or(json, "double_latent", false, where), where,
                      ": double_latent=true is not supported by janus_vq16: its latents are "
                      "looked up, not drawn");
  const double dropout = io::get_or(json, "dropout", 0.0, where);
  VEOMNI_CHECK_CONFIG(dropout == 0, where, ": dropout=", dropout,
                      " is not supported by janus_vq16; set it to 0");
  for (const char* name : {"veomni_perceptual_weight", "veomni_perceptual_path"}) {
    VEOMNI_CHECK_CONFIG(!io::has_value(json, name), where, ": ", name,
                        " is not supported by janus_vq16: it has no perceptual loss; leave the key "
                        "out");
  }
}

void check_sizes(const JanusVqConfig& c, const std::string& where) {
  io::check_positive({{"num_embeddings", c.num_embeddings},
                      {"embed_dim", c.embed_dim},
                      {"latent_channels", c.latent_channels},
                      {"base_channels", c.base_channels},
                      {"num_res_blocks", c.num_res_blocks},
                      {"num_patches", c.num_patches},
                      {"num_hidden_layers", c.aligner_layers}},
                     where);
  VEOMNI_CHECK_CONFIG(c.base_channels % kJanusGroups == 0, where,
                      ": base_channels=", c.base_channels, " is not a multiple of ", kJanusGroups,
                      ", the groups of every group norm");
  for (auto [name, value] : {std::pair{"beta", c.beta},
                             {"veomni_adversarial_weight", c.adversarial_weight},
                             {"initializer_range", c.initializer_range}}) {
    VEOMNI_CHECK_CONFIG(value >= 0, where, ": ", name, " must not be less than 0, got ", value);
  }
}

}  // namespace

JanusVqConfig JanusVqConfig::from_json(const nlohmann::json& json, const std::string& where) {
  JanusVqConfig c;
  c.num_embeddings = io::get_or(json, "num_embeddings", 16384, where);
  c.embed_dim = io::get_or(json, "embed_dim", 8, where);
  c.latent_channels = io::get_or(json, "latent_channels", 256, where);
  c.base_channels = io::get_or(json, "base_channels", 128, where);
  c.num_res_blocks = io::get_or(json, "num_res_blocks", 2, where);
  c.num_patches = io::get_or(json, "num_patches", 32, where);
  c.channel_multiplier = read_multipliers(json, where);
  c.aligner_layers = io::get_or(json, "num_hidden_layers", 2, where);
  c.hidden_act = io::get_or(json, "hidden_act", "gelu", where);
  c.initializer_range = io::get_or(json, "initializer_range", 0.02, where);
  c.beta = io::get_or(json, "beta", 0.25, where);
  c.adversarial_weight = io::get_or(json, "veomni_adversarial_weight", 0.0, where);
  check_fixed(json, where);
  check_sizes(c, where);
  VEOMNI_CHECK_CONFIG(
      c.hidden_act == "gelu" || c.hidden_act == "gelu_pytorch_tanh" || c.hidden_act == "silu",
      where, ": hidden_act '", c.hidden_act,
      "' is not supported by janus_vq16 (supported: gelu, gelu_pytorch_tanh, silu)");
  const auto reconstruction = io::get_or(json, "veomni_reconstruction", "mse", where);
  VEOMNI_CHECK_CONFIG(reconstruction == "mse" || reconstruction == "l1", where,
                      ": veomni_reconstruction '", reconstruction, "' is not known (mse, l1)");
  c.l1 = reconstruction == "l1";
  c.source = json;
  // A part of a whole model's config has no name of its own.
  c.source["model_type"] = "janus_vqgan";
  c.source["architectures"] = {"JanusVQVAE"};
  return c;
}

}  // namespace veomni::model
