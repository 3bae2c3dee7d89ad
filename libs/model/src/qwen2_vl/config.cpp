// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"
#include "vision.h"

namespace veomni::model {

Qwen2VlVisionConfig Qwen2VlVisionConfig::from_json(const nlohmann::json& json,
                                                   const std::string& where) {
  Qwen2VlVisionConfig c;
  c.depth = io::require_int(json, "depth", where);
  c.embed_dim = io::require_int(json, "embed_dim", where);
  c.num_heads = io::require_int(json, "num_heads", where);
  c.output_size = io::require_int(json, "hidden_size", where);
  const double mlp_ratio = io::get_or(json, "mlp_ratio", 4.0, where);
  c.mlp_dim = static_cast<int64_t>(static_cast<double>(c.embed_dim) * mlp_ratio);
  c.in_channels = io::get_or(json, "in_channels", 3, where);
  c.patch_size = io::get_or(json, "patch_size", 14, where);
  c.temporal_patch_size = io::get_or(json, "temporal_patch_size", 2, where);
  c.merge_size = io::get_or(json, "spatial_merge_size", 2, where);
  c.initializer_range = io::get_or(json, "initializer_range", 0.02, where);
  io::check_positive({{"depth", c.depth},
                      {"embed_dim", c.embed_dim},
                      {"num_heads", c.num_heads},
                      {"hidden_size", c.output_size},
                      {"embed_dim x mlp_ratio", c.mlp_dim},
                      {"in_channels", c.in_channels},
                      {"patch_size", c.patch_size},
                      {"temporal_patch_size", c.temporal_patch_size},
                      {"spatial_merge_size", c.merge_size}},
                     where);
  // A quarter of a head's dimensions turns by the row, a quarter by the column.
  VEOMNI_CHECK_CONFIG(c.embed_dim % (4 * c.num_heads) == 0, where, ": embed_dim=", c.embed_dim,
                      " is not a multiple of 4 x num_heads=", c.num_heads);
  const auto act = io::get_or(json, "hidden_act", std::string("quick_gelu"), where);
  VEOMNI_CHECK_CONFIG(act == "quick_gelu" || act == "gelu", where, ": hidden_act '", act,
                      "' is not supported by qwen2_vl_vision (supported: quick_gelu, gelu)");
  c.quick_gelu = act == "quick_gelu";
  c.source = json;
  // A part of a whole model's config has no name of its own.
  c.source["model_type"] = "qwen2_vl_vision";
  c.source["architectures"] = {"Qwen2VisionTransformerPretrainedModel"};
  return c;
}

io::RuleSet Qwen2VlVision::rules() const {
  const auto& c = config_;
  std::vector<io::TensorRule> rules = {
      {.param = "patch_embed.proj.weight",
       .files = {"patch_embed.proj.weight"},
       .reshape = {c.embed_dim, c.in_channels, c.temporal_patch_size, c.patch_size, c.patch_size}},
  };
  const auto add = [&](const std::string& param, const std::string& file) {
    for (const std::string leaf : {".weight", ".bias"})
      rules.push_back({.param = param + leaf, .files = {file + leaf}});
  };
  for (const std::string part : {"norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}) {
    add("blocks.{}." + part, "blocks.{}." + part);
  }
  add("merger.ln_q", "merger.ln_q");
  add("merger.fc1", "merger.mlp.0");
  add("merger.fc2", "merger.mlp.2");
  return io::RuleSet(std::move(rules));
}

}  // namespace veomni::model
