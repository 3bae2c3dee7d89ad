// SPDX-License-Identifier: Apache-2.0
#include "veomni/model/registration.h"

#include <algorithm>

#include "janus/vq16.h"
#include "qwen2/qwen2.h"
#include "qwen2_5_omni/audio.h"
#include "qwen2_vl/vision.h"
#include "qwen3/qwen3.h"
#include "veomni/base/registry.h"

namespace veomni::model {

namespace {

using nlohmann::json;

using FoundationRegistry =
    Registry<Foundation, const json&, const std::string&, const nn::ParamOptions&>;
using EncoderRegistry = Registry<Encoder, const json&, const std::string&, const nn::ParamOptions&>;
using DecoderRegistry =
    Registry<Decoder, const json&, const std::string&, int64_t, const nn::ParamOptions&>;

template <typename Config, typename Model> FoundationRegistry::Factory foundation() {
  return [](const json& config, const std::string& where, const nn::ParamOptions& options) {
    return std::make_unique<Model>(Config::from_json(config, where), options);
  };
}

template <typename Config, typename Model> EncoderRegistry::Factory encoder() {
  return [](const json& config, const std::string& where, const nn::ParamOptions& options) {
    return std::make_unique<Model>(Config::from_json(config, where), options);
  };
}

template <typename Config, typename Model> DecoderRegistry::Factory decoder() {
  return [](const json& config, const std::string& where, int64_t lm_width,
            const nn::ParamOptions& options) {
    return std::make_unique<Model>(Config::from_json(config, where), lm_width, options);
  };
}

// A new model adds its rows here: the entry people see and its factory.
const std::vector<ModelEntry> kModels = {
    {"decoder",
     "janus_vq16",
     {"JanusVQVAE"},
     "Janus's picture tokenizer (VQGAN) and generation head: a code for f x f pixels",
     "image",
     {{"JanusForConditionalGeneration",
       "vq_config",
       {{{"", "model.vqmodel."}, {"generation_", "model.generation_"}}}}},
     {"janus_vqgan"}},
    {"encoder",
     "qwen2_5_omni_audio",
     {"Qwen2_5OmniAudioEncoder"},
     "Qwen2.5-Omni's audio encoder: log-mel frames, a token for 40 ms",
     "audio",
     {{"Qwen2_5OmniForConditionalGeneration",
       "thinker_config.audio_config",
       {{{"", "thinker.audio_tower."}}}},
      {"Qwen2_5OmniModel", "thinker_config.audio_config", {{{"", "thinker.audio_tower."}}}},
      {"Qwen2_5OmniThinkerForConditionalGeneration", "audio_config", {{{"", "audio_tower."}}}}},
     {"qwen2_5_omni_audio_encoder"}},
    {"encoder",
     "qwen2_vl_vision",
     {"Qwen2VisionTransformerPretrainedModel"},
     "Qwen2-VL's vision tower: pictures of any size, a token for 2 x 2 patches",
     "image",
     {{"Qwen2VLForConditionalGeneration",
       "vision_config",
       {{{"", "model.visual."}}, {{"", "visual."}}}}}},
    {"foundation",
     "qwen2",
     {"Qwen2ForCausalLM", "Qwen2Model"},
     "Qwen2, Qwen2.5 and Qwen2-VL's language model: GQA, biases on q, k, v; M-RoPE",
     "",
     {{"Qwen2VLForConditionalGeneration",
       "text_config",
       {{{"model.", "model.language_model."}, {"lm_head.", "lm_head."}},
        {{"model.", "model."}, {"lm_head.", "lm_head."}}}}},
     {"qwen2_vl_text"}},
    {"foundation",
     "qwen3",
     {"Qwen3ForCausalLM", "Qwen3Model"},
     "Qwen3 dense: GQA and q/k norm",
     ""},
};

void register_foundations(FoundationRegistry& registry) {
  registry.add("qwen2", foundation<Qwen2Config, Qwen2>());
  registry.add("qwen3", foundation<Qwen3Config, Qwen3>());
}

void register_encoders(EncoderRegistry& registry) {
  registry.add("qwen2_5_omni_audio", encoder<Qwen2_5OmniAudioConfig, Qwen2_5OmniAudio>());
  registry.add("qwen2_vl_vision", encoder<Qwen2VlVisionConfig, Qwen2VlVision>());
}

void register_decoders(DecoderRegistry& registry) {
  registry.add("janus_vq16", decoder<JanusVqConfig, JanusVq16>());
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<std::string> architectures_of(const json& config) {
  std::vector<std::string> names;
  for (const auto& name : config.value("architectures", json::array())) {
    if (name.is_string()) names.push_back(name.get<std::string>());
  }
  return names;
}

std::string model_type_of(const json& config) {
  const auto type = config.find("model_type");
  return type != config.end() && type->is_string() ? type->get<std::string>() : "";
}

const Within* place_in(const ModelEntry& entry, const std::vector<std::string>& architectures) {
  for (const Within& within : entry.within) {
    if (contains(architectures, within.architecture)) return &within;
  }
  return nullptr;
}

// The part's own config inside a whole model's; the whole where the key is absent (older exporters nested nothing).
json nested(const json& config, const std::string& dotted) {
  const json* at = &config;
  size_t begin = 0;
  while (begin < dotted.size()) {
    const size_t end = std::min(dotted.find('.', begin), dotted.size());
    const auto child = at->find(dotted.substr(begin, end - begin));
    if (child == at->end() || !child->is_object()) return config;
    at = &*child;
    begin = end + 1;
  }
  return *at;
}

PartConfig part_of(const ModelEntry& entry, const json& config, const Within* within) {
  if (!within) return {&entry, config, nullptr};
  json part = nested(config, within->config);
  // Whether head and embedding are one is said of the whole model.
  const auto tied = config.find("tie_word_embeddings");
  if (entry.kind == "foundation" && tied != config.end()) part["tie_word_embeddings"] = *tied;
  return {&entry, std::move(part), within};
}

std::vector<std::string> known_types(const std::string& kind, const std::string& modality) {
  std::vector<std::string> names;
  for (const auto& entry : kModels) {
    if (entry.kind == kind && (modality.empty() || entry.modality == modality))
      names.push_back(entry.model_type);
  }
  return names;
}

std::string what_it_says(const json& config, const std::vector<std::string>& architectures) {
  const std::string type = model_type_of(config);
  return !type.empty() || architectures.empty() ? type : architectures.front();
}

}  // namespace

const std::vector<ModelEntry>& registered_models() { return kModels; }

std::optional<PartConfig> look_for_part(const std::string& kind, const std::string& modality,
                                        const std::string& type, const json& config) {
  const auto architectures = architectures_of(config);
  const auto fits = [&](const ModelEntry& entry) {
    return entry.kind == kind && (modality.empty() || entry.modality == modality) &&
           (type.empty() || entry.model_type == type);
  };
  for (const auto& entry : kModels) {
    if (!fits(entry)) continue;
    for (const auto& name : architectures) {
      if (contains(entry.architectures, name)) return part_of(entry, config, nullptr);
    }
  }
  for (const auto& entry : kModels) {
    if (!fits(entry)) continue;
    if (const Within* within = place_in(entry, architectures))
      return part_of(entry, config, within);
  }
  for (const auto& entry : kModels) {
    const std::string said = model_type_of(config);
    if (fits(entry) &&
        (!type.empty() || entry.model_type == said || contains(entry.other_types, said)))
      return part_of(entry, config, nullptr);
  }
  return std::nullopt;
}

PartConfig find_part(const std::string& kind, const std::string& modality, const std::string& type,
                     const json& config, const std::string& where) {
  VEOMNI_CHECK_CONFIG(config.is_object(), where,
                      ": a model's config must be an object of keys and values");
  if (auto part = look_for_part(kind, modality, type, config)) return *part;
  const auto known = known_types(kind, modality);
  const std::string what = modality.empty() ? kind : modality + " " + kind;
  const std::string name = type.empty() ? what_it_says(config, architectures_of(config)) : type;
  VEOMNI_CHECK_CONFIG(
      !name.empty(), where,
      ": neither `architectures` nor `model_type` says which model this is (known: ", join(known),
      ")");
  throw_config_error(where + ": " + unknown_name_message(what, name, known));
}

std::unique_ptr<Foundation> make_foundation(const PartConfig& part, const std::string& where,
                                            const nn::ParamOptions& options) {
  FoundationRegistry registry("foundation");
  register_foundations(registry);
  return registry.make(part.entry->model_type, part.config, where, options);
}

std::unique_ptr<Encoder> make_encoder(const PartConfig& part, const std::string& where,
                                      const nn::ParamOptions& options) {
  EncoderRegistry registry("encoder");
  register_encoders(registry);
  return registry.make(part.entry->model_type, part.config, where, options);
}

std::unique_ptr<Decoder> make_decoder(const PartConfig& part, const std::string& where,
                                      int64_t lm_width, const nn::ParamOptions& options) {
  DecoderRegistry registry("decoder");
  register_decoders(registry);
  return registry.make(part.entry->model_type, part.config, where, lm_width, options);
}

}  // namespace veomni::model
