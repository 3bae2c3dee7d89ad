// SPDX-License-Identifier: Apache-2.0
#include "veomni/model/registration.h"

#include <algorithm>

#include "qwen3/qwen3.h"
#include "veomni/base/registry.h"

namespace veomni::model {

namespace {

using FoundationRegistry =
    Registry<Foundation, const nlohmann::json&, const std::string&, const nn::ParamOptions&>;

template <typename Config, typename Model> FoundationRegistry::Factory foundation() {
  return
      [](const nlohmann::json& config, const std::string& where, const nn::ParamOptions& options) {
        return std::make_unique<Model>(Config::from_json(config, where), options);
      };
}

// A new model adds its rows here: the entry people see and its factory.
const std::vector<ModelEntry> kModels = {
    {"foundation", "qwen3", {"Qwen3ForCausalLM", "Qwen3Model"}, "Qwen3 dense: GQA and q/k norm"},
};

void register_foundations(FoundationRegistry& registry) {
  registry.add("qwen3", foundation<Qwen3Config, Qwen3>());
}

// The entry a config.json asks for, or its own words for the error text.
std::string requested_type(const nlohmann::json& config, const std::string& kind) {
  const auto architectures = config.value("architectures", nlohmann::json::array());
  for (const auto& entry : kModels) {
    if (entry.kind != kind) continue;
    for (const auto& name : architectures) {
      if (std::count(entry.architectures.begin(), entry.architectures.end(), name))
        return entry.model_type;
    }
  }
  const auto type = config.find("model_type");
  if (type != config.end() && type->is_string()) return type->get<std::string>();
  return architectures.empty() ? "" : architectures[0].dump();
}

}  // namespace

std::vector<ModelEntry> registered_models() { return kModels; }

std::unique_ptr<Foundation> make_foundation(const nlohmann::json& config, const std::string& where,
                                            const nn::ParamOptions& options) {
  FoundationRegistry registry("foundation");
  register_foundations(registry);
  VEOMNI_CHECK_CONFIG(config.is_object(), where,
                      ": a model's config must be an object of keys and values");
  const std::string type = requested_type(config, "foundation");
  VEOMNI_CHECK_CONFIG(
      !type.empty(), where,
      ": neither `architectures` nor `model_type` says which model this is (known: ",
      join(registry.names()), ")");
  VEOMNI_CHECK_CONFIG(registry.has(type), where, ": ",
                      unknown_name_message("foundation", type, registry.names()));
  return registry.make(type, config, where, options);
}

}  // namespace veomni::model
