// SPDX-License-Identifier: Apache-2.0
#include "causal_config.h"

#include <algorithm>
#include <utility>

#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"

namespace veomni::model {

namespace {

using nlohmann::json;

// What transformers takes where use_sliding_window is on and the key is absent.
constexpr int64_t kDefaultWindow = 4096;

// Newer files nest rope settings in rope_parameters; older ones have rope_scaling and rope_theta at the top.
const json& rope_settings(const json& config) {
  static const json none = json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (auto found = config.find(key); found != config.end() && found->is_object()) return *found;
  }
  return none;
}

std::vector<int> read_mrope_sections(const json& rope, int64_t frequencies,
                                     const std::string& where) {
  std::vector<int> axes;
  if (!io::has_value(rope, "mrope_section")) return axes;
  const json& sections = io::require_array(rope, "mrope_section", where);
  int64_t sum = 0;
  for (size_t axis = 0; axis < sections.size(); ++axis) {
    VEOMNI_CHECK_CONFIG(sections[axis].is_number_integer() && sections[axis] >= 0, where,
                        ": mrope_section must hold whole numbers, has ",
                        io::brief_json(sections[axis]));
    const auto size = sections[axis].get<int64_t>();
    sum += std::min(size, frequencies + 1);  // a sum that cannot overflow
    if (sum <= frequencies) axes.insert(axes.end(), size, static_cast<int>(axis));
  }
  VEOMNI_CHECK_CONFIG(sections.size() == 3 && sum == frequencies, where, ": mrope_section has ",
                      sections.size(), " entries of ", sum,
                      " frequencies in all; it needs 3 (time, height, width) that make up half of "
                      "head_dim, ",
                      frequencies);
  return axes;
}

void read_rope(CausalConfig& c, const json& config, double default_theta, const std::string& where,
               const std::string& model) {
  const json& rope = rope_settings(config);
  const auto type =
      io::get_or(rope, "rope_type", io::get_or(rope, "type", std::string("default"), where), where);
  VEOMNI_CHECK_CONFIG(type == "default" || type == "mrope", where, ": rope_type '", type,
                      "' is not supported by ", model, " (supported: default, mrope)");
  c.rope_theta =
      io::get_or(rope, "rope_theta", io::get_or(config, "rope_theta", default_theta, where), where);
  c.axis_of_freq = read_mrope_sections(rope, c.head_dim / 2, where);
  VEOMNI_CHECK_CONFIG(type != "mrope" || !c.axis_of_freq.empty(), where,
                      ": rope_type 'mrope' needs mrope_section");
}

std::vector<int64_t> read_windows(const json& config, int64_t layers, int64_t max_window_layers,
                                  const std::string& where) {
  std::vector<int64_t> windows(layers, 0);
  const bool use = io::get_or(config, "use_sliding_window", false, where);
  const auto given = config.find("sliding_window");
  if (!use || (given != config.end() && given->is_null())) return windows;
  const int64_t size = io::get_or(config, "sliding_window", kDefaultWindow, where);
  VEOMNI_CHECK_CONFIG(size > 0, where, ": sliding_window must be more than 0, got ", size);
  if (auto types = config.find("layer_types"); types != config.end() && types->is_array()) {
    VEOMNI_CHECK_CONFIG(static_cast<int64_t>(types->size()) == layers, where, ": layer_types has ",
                        types->size(), " entries for ", layers, " layers");
    for (int64_t i = 0; i < layers; ++i) windows[i] = (*types)[i] == "sliding_attention" ? size : 0;
  } else {
    for (int64_t i = io::get_or(config, "max_window_layers", max_window_layers, where); i < layers;
         ++i)
      windows[i] = size;
  }
  return windows;
}

void read_sizes(CausalConfig& c, const json& json, const std::string& where) {
  c.vocab_size = io::require_int(json, "vocab_size", where);
  c.hidden_size = io::require_int(json, "hidden_size", where);
  c.intermediate_size = io::require_int(json, "intermediate_size", where);
  c.num_layers = io::require_int(json, "num_hidden_layers", where);
  c.num_heads = io::require_int(json, "num_attention_heads", where);
  c.num_kv_heads = io::get_or(json, "num_key_value_heads", c.num_heads, where);
  io::check_positive({{"vocab_size", c.vocab_size},
                      {"hidden_size", c.hidden_size},
                      {"intermediate_size", c.intermediate_size},
                      {"num_hidden_layers", c.num_layers},
                      {"num_attention_heads", c.num_heads},
                      {"num_key_value_heads", c.num_kv_heads}},
                     where);
  VEOMNI_CHECK_CONFIG(c.num_heads % c.num_kv_heads == 0, where,
                      ": num_attention_heads=", c.num_heads,
                      " is not a multiple of num_key_value_heads=", c.num_kv_heads);
}

}  // namespace

CausalConfig read_causal_config(const json& json, const std::string& where,
                                const std::string& model, const CausalDefaults& defaults) {
  CausalConfig c;
  read_sizes(c, json, where);
  const int64_t per_head = defaults.head_dim > 0 ? defaults.head_dim : c.hidden_size / c.num_heads;
  c.head_dim = io::get_or(json, "head_dim", per_head, where);
  VEOMNI_CHECK_CONFIG(c.head_dim > 0 && c.head_dim % 2 == 0, where,
                      ": head_dim must be even for rotary embeddings, got ", c.head_dim);
  c.rms_norm_eps = io::get_or(json, "rms_norm_eps", defaults.rms_norm_eps, where);
  c.initializer_range = io::get_or(json, "initializer_range", 0.02, where);
  c.tie_word_embeddings = io::get_or(json, "tie_word_embeddings", false, where);
  read_rope(c, json, defaults.rope_theta, where, model);
  c.window_of_layer = read_windows(json, c.num_layers, defaults.max_window_layers, where);
  const auto act = io::get_or(json, "hidden_act", std::string("silu"), where);
  VEOMNI_CHECK_CONFIG(act == "silu", where, ": hidden_act '", act, "' is not supported by ", model,
                      " (supported: silu)");
  const double dropout = io::get_or(json, "attention_dropout", 0.0, where);
  VEOMNI_CHECK_CONFIG(dropout == 0, where, ": attention_dropout=", dropout, " is not supported by ",
                      model, "; set it to 0");
  c.source = json;
  return c;
}

}  // namespace veomni::model
