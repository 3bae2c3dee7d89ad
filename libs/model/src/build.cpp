// SPDX-License-Identifier: Apache-2.0
#include "veomni/model/build.h"

#include <algorithm>
#include <filesystem>

#include "veomni/base/error.h"
#include "veomni/io/hf_directory.h"
#include "veomni/io/json_fields.h"
#include "veomni/model/registration.h"
#include "veomni/nn/materialize.h"
#include "yaml_json.h"

namespace veomni::model {

namespace {

using nlohmann::json;

// A saved decoder says so in its config.json when its head is in the files too.
constexpr const char* kHeadWidth = "veomni_head_width";
// A whole model's directory of ours: its config.json names the directories of its parts.
constexpr const char* kOmniType = "veomni_omni";

bool has_config(const PartOptions& part) {
  return part.config.IsDefined() && !part.config.IsNull();
}

bool is_given(const PartOptions& part) { return !part.path.empty() || has_config(part); }

// A part's config and where it was read: a recipe's key or a file.
struct Described {
  PartConfig part;
  std::string where;
};

Described describe(const std::string& kind, const std::string& modality, const PartOptions& options,
                   const std::string& key) {
  VEOMNI_CHECK_CONFIG(options.path.empty() != !has_config(options), key,
                      " needs either `path` (a Hugging Face directory) or `config` "
                      "(for a model from scratch)");
  if (has_config(options)) {
    const std::string where = key + ".config";
    return {find_part(kind, modality, options.type, yaml_to_json(options.config), where), where};
  }
  const auto directory = io::HfDirectory::open(options.path);
  return {find_part(kind, modality, options.type, directory.config(), directory.config_path()),
          directory.config_path()};
}

// The width of a head that lies in a directory beside its tokenizer; 0: there is none.
int64_t saved_head_width(const PartConfig& part) {
  if (part.within) return part.config.value("projection_dim", int64_t{0});
  return part.config.value(kHeadWidth, int64_t{0});
}

void set_trainable(nn::Module& module, bool trainable) {
  for (auto& [name, parameter] : module.named_parameters()) parameter.set_trainable(trainable);
}

void apply_train(OmniModel& model, const ModelOptions& options) {
  if (model.has_foundation() && options.foundation.train == "none")
    set_trainable(model.foundation(), false);
  for (const auto& [modality, encoder] : model.encoders()) {
    const std::string& train = options.encoders.at(modality).train;
    for (auto& [name, parameter] : encoder->named_parameters())
      parameter.set_trainable(train == "all" ||
                              (train == "projector" && encoder->is_projector(name)));
    if (train == "none" && model.projectors().has("encoders." + modality))
      set_trainable(model.projectors().at("encoders." + modality), false);
  }
  for (const auto& [modality, decoder] : model.decoders()) {
    const std::string& train = options.decoders.at(modality).train;
    for (auto& [name, parameter] : decoder->named_parameters()) {
      const bool tokenizer = decoder->is_tokenizer(name);
      const bool wanted =
          tokenizer ? !model.has_foundation() && train == "all"
                    : train == "all" || (train == "head" && !decoder->is_code_embedding(name));
      parameter.set_trainable(wanted);
    }
    for (const char* side : {".in", ".out"}) {
      const std::string name = "decoders." + modality + side;
      if (train == "none" && model.projectors().has(name))
        set_trainable(model.projectors().at(name), false);
    }
  }
}

// How the part's tensors are called in a directory's files: its own, or a whole model's by the exporter that wrote them.
io::RuleSet rules_in(const io::RuleSet& own, const PartConfig& part,
                     const io::SafetensorsIndex& index) {
  if (!part.within) return own;
  const auto& tensors = index.tensors();
  for (const auto& leads : part.within->leads) {
    const bool fits = std::any_of(tensors.begin(), tensors.end(), [&](const auto& entry) {
      return entry.first.starts_with(leads.front().whole);
    });
    if (fits) return own.under(leads);
  }
  throw_config_error(index.where() + ": no tensor begins with " +
                     part.within->leads.front().front().whole + ", where a " +
                     part.entry->model_type + " lies");
}

// Loads a part from its directory, its own or a whole model's.
void load_part(nn::Module& module, const io::RuleSet& own_rules, const PartConfig& part,
               const std::string& path,
               const std::function<bool(const std::string&)>& wanted = {}) {
  const auto index = io::HfDirectory::open(path).weights();
  nn::load_weights(module, rules_in(own_rules, part, index), index, wanted);
}

std::vector<std::string> names_of(nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& [path, parameter] : module.named_parameters()) names.push_back(parameter.name());
  return names;
}

io::RuleSet identity_rules(nn::Module& module) {
  std::vector<io::TensorRule> rules;
  for (const auto& [path, parameter] : module.named_parameters())
    rules.push_back({.param = path, .files = {path}});
  return io::RuleSet(std::move(rules));
}

std::string projector_directory(const ModelOptions& options) {
  return options.path.empty() ? "" : options.path + "/projectors";
}

}  // namespace

// `model.path` stands for all parts of a directory; what a recipe says of a part replaces what it says.
ModelOptions resolve(const ModelOptions& options) {
  if (options.path.empty()) return options;
  ModelOptions all = options_of_directory(options.path);
  const auto replace = [](auto& part, const auto& with) {
    const bool given = is_given(with);
    const auto source = part;
    part = with;
    if (!given) {
      part.path = source.path;
      part.type = with.type.empty() ? source.type : with.type;
    }
  };
  replace(all.foundation, options.foundation);
  for (const auto& [modality, part] : options.encoders) replace(all.encoders[modality], part);
  for (const auto& [modality, part] : options.decoders) replace(all.decoders[modality], part);
  return all;
}

std::unique_ptr<OmniModel> build_model(const ModelOptions& given, const nn::ParamOptions& o) {
  const ModelOptions options = resolve(given);
  OmniModel::Parts parts;
  // Without a foundation a recipe trains a decoder's tokenizer, and `forward` runs a part by itself.
  const bool with_foundation =
      is_given(options.foundation) || (options.encoders.empty() && options.decoders.empty());
  if (with_foundation) {
    const auto [part, where] = describe("foundation", "", options.foundation, "model.foundation");
    parts.foundation = make_foundation(part, where, o);
  }
  for (const auto& [modality, encoder] : options.encoders) {
    const auto [part, where] = describe("encoder", modality, encoder, "model.encoders." + modality);
    parts.encoders[modality] = make_encoder(part, where, o);
  }
  for (const auto& [modality, decoder] : options.decoders) {
    const auto [part, where] = describe("decoder", modality, decoder, "model.decoders." + modality);
    const int64_t saved = has_config(decoder) ? 0 : saved_head_width(part);
    const int64_t width = !with_foundation ? 0
                          : saved > 0      ? saved
                                           : parts.foundation->hidden_size();
    parts.decoders[modality] = make_decoder(part, where, width, o);
  }
  auto model = std::make_unique<OmniModel>(std::move(parts), o);
  nn::assign_names(*model);
  apply_train(*model, options);
  return model;
}

void fill_weights(OmniModel& model, const ModelOptions& given, uint64_t seed) {
  const ModelOptions options = resolve(given);
  const auto fresh = [&](nn::Module& module) {
    if (const auto names = names_of(module); !names.empty()) nn::initialize(model, seed, names);
  };
  const auto fill = [&](nn::Module& module, const io::RuleSet& rules, const std::string& kind,
                        const std::string& modality, const PartOptions& part) {
    if (has_config(part)) return fresh(module);
    load_part(module, rules, describe(kind, modality, part, "").part, part.path);
  };
  if (model.has_foundation())
    fill(model.foundation(), model.foundation().rules(), "foundation", "", options.foundation);
  for (const auto& [modality, encoder] : model.encoders())
    fill(*encoder, encoder->rules(), "encoder", modality, options.encoders.at(modality));
  for (const auto& [modality, decoder] : model.decoders()) {
    const PartOptions& part = options.decoders.at(modality);
    if (has_config(part)) {
      fresh(*decoder);
      continue;
    }
    const auto described = describe("decoder", modality, part, "").part;
    const bool only_tokenizer = saved_head_width(described) == 0;
    if (only_tokenizer) fresh(*decoder);
    load_part(*decoder, decoder->rules(), described, part.path,
              only_tokenizer ? [&](const std::string& name) { return decoder->is_tokenizer(name); }
                             : std::function<bool(const std::string&)>{});
  }
  if (model.projectors().empty()) return;
  const std::string directory = projector_directory(options);
  if (directory.empty() || !std::filesystem::is_directory(directory))
    return fresh(model.projectors());
  nn::load_weights(model.projectors(), identity_rules(model.projectors()),
                   io::SafetensorsIndex::open(directory));
}

ModelOptions options_of_directory(const std::string& path) {
  const auto directory = io::HfDirectory::open(path);
  const json& config = directory.config();
  ModelOptions options;
  options.path = path;
  if (config.value("model_type", "") == kOmniType) {
    const auto place = [&](const json& name) { return path + "/" + name.get<std::string>(); };
    if (config.contains("foundation")) options.foundation.path = place(config["foundation"]);
    const json encoders = config.value("encoders", json::object());
    for (const auto& [modality, name] : encoders.items())
      options.encoders[modality].path = place(name);
    const json decoders = config.value("decoders", json::object());
    for (const auto& [modality, name] : decoders.items())
      options.decoders[modality].path = place(name);
    return options;
  }
  if (look_for_part("foundation", "", "", config)) options.foundation.path = path;
  for (const auto& entry : registered_models()) {
    const auto part = look_for_part(entry.kind, entry.modality, "", config);
    if (!part || part->entry != &entry) continue;
    if (entry.kind == "encoder") options.encoders[entry.modality].path = path;
    if (entry.kind == "decoder") options.decoders[entry.modality].path = path;
  }
  if (!is_given(options.foundation) && options.encoders.empty() && options.decoders.empty())
    find_part("foundation", "", "", config, directory.config_path());  // says what is known
  return options;
}

namespace {

// transformers 5 writes a whole processor as processor_config.json, the settings of pictures and of sound apart; their keys
// do not meet, and older directories have them in one preprocessor_config.json.
json saved_preprocessor(const io::HfDirectory& directory) {
  if (const auto file = directory.find("preprocessor_config.json"))
    return io::read_json_file(*file);
  json config = json::object();
  if (const auto file = directory.find("processor_config.json")) {
    const json whole = io::read_json_file(*file);
    for (const char* half : {"image_processor", "feature_extractor"})
      if (io::has_value(whole, half)) config.update(io::require_object(whole, half, *file));
  }
  return config;
}

}  // namespace

json preprocessor_config(const PartOptions& part) {
  json config = json::object();
  if (!part.path.empty()) {
    config = saved_preprocessor(io::HfDirectory::open(part.path));
  }
  if (part.preprocessor.IsDefined() && !part.preprocessor.IsNull())
    config.update(yaml_to_json(part.preprocessor));
  return config;
}

namespace {

// A part of a model with what a recipe says of it.
struct OwnPart {
  std::string kind, modality;  ///< "foundation", "encoder", "decoder"; "" of the foundation
  nn::Module* module;
  io::RuleSet rules;  ///< of its own directory
  json config;
  const PartOptions* options;

  std::string name() const { return modality.empty() ? kind : kind + "s." + modality; }
  std::string directory() const { return modality.empty() ? kind : kind + "s/" + modality; }
};

// In a fixed order; projectors are not among them.
std::vector<OwnPart> own_parts(OmniModel& model, const ModelOptions& options) {
  std::vector<OwnPart> parts;
  if (model.has_foundation()) {
    auto& part = model.foundation();
    parts.push_back({"foundation", "", &part, part.rules(), part.config(), &options.foundation});
  }
  for (const auto& [modality, part] : model.encoders())
    parts.push_back({"encoder", modality, part.get(), part->rules(), part->config(),
                     &options.encoders.at(modality)});
  for (const auto& [modality, part] : model.decoders()) {
    json config = part->config();
    if (part->lm_width() > 0) config[kHeadWidth] = part->lm_width();
    parts.push_back(
        {"decoder", modality, part.get(), part->rules(), config, &options.decoders.at(modality)});
  }
  return parts;
}

// The one directory of a whole model that all parts came from, as it was.
SavedFolder whole_folder(const ModelOptions& options, const std::vector<OwnPart>& parts) {
  const auto directory = io::HfDirectory::open(options.path);
  const auto index = directory.weights();
  SavedFolder whole{"", directory.config(), {}, preprocessor_config(*parts.front().options)};
  for (const auto& part : parts) {
    const auto described = describe(part.kind, part.modality, *part.options, "").part;
    whole.parts.push_back({part.name(), part.module, rules_in(part.rules, described, index)});
  }
  return whole;
}

SavedFolder own_folder(const OwnPart& part, const std::string& directory) {
  return {directory,
          part.config,
          {{part.name(), part.module, part.rules}},
          preprocessor_config(*part.options)};
}

}  // namespace

std::vector<SavedFolder> saved_layout(OmniModel& model, const ModelOptions& given) {
  const ModelOptions options = resolve(given);
  const auto parts = own_parts(model, options);
  auto& projectors = model.projectors();
  const bool from_one_directory = !options.path.empty() && projectors.empty() &&
                                  std::all_of(parts.begin(), parts.end(), [&](const OwnPart& part) {
                                    return part.options->path == options.path;
                                  });
  if (from_one_directory) return {whole_folder(options, parts)};
  if (parts.size() == 1 && projectors.empty()) return {own_folder(parts.front(), "")};

  json config = {{"model_type", kOmniType}, {"architectures", {"OmniModel"}}};
  std::vector<SavedFolder> folders;
  for (const auto& part : parts) {
    (part.modality.empty() ? config[part.kind] : config[part.kind + "s"][part.modality]) =
        part.directory();
    folders.push_back(own_folder(part, part.directory()));
  }
  if (!projectors.empty()) {
    config["projectors"] = "projectors";
    folders.push_back({"projectors",
                       json::object(),
                       {{"projectors", &projectors, identity_rules(projectors)}},
                       json::object()});
  }
  folders.insert(folders.begin(), SavedFolder{"", config, {}, json::object()});
  return folders;
}

}  // namespace veomni::model
