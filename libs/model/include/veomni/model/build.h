// SPDX-License-Identifier: Apache-2.0
/// From a recipe's `model` section to a model, and the directories its parts come from and go to.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "veomni/io/tensor_rule.h"
#include "veomni/model/model_options.h"
#include "veomni/model/omni_model.h"

namespace veomni::model {

/// Builds the model a recipe asks for, on options.device (usually meta), names assigned, `train` applied.
/// @throws ConfigError for parts that do not fit or are not known
std::unique_ptr<OmniModel> build_model(const ModelOptions& options,
                                       const nn::ParamOptions& param_options);

/// Fills a materialised model: from the parts' directories, or initialised by (seed, name).
void fill_weights(OmniModel& model, const ModelOptions& options, uint64_t seed);

/// A model whose parts are what a directory holds: a whole model's, or one part's own.
ModelOptions options_of_directory(const std::string& path);

/// preprocessor_config.json of a part's directory, or the halves of processor_config.json, with the recipe's keys over
/// it; an object, perhaps empty.
nlohmann::json preprocessor_config(const PartOptions& part);

/// `options` with the parts of `options.path` filled in.
ModelOptions resolve(const ModelOptions& options);

/// A part of a built model and how its tensors are called in a directory's files.
struct SavedPart {
  std::string name;  ///< "foundation", "encoders.image", "decoders.image", "projectors"
  nn::Module* module = nullptr;
  io::RuleSet rules;
};

/// One directory of a saved model.
struct SavedFolder {
  std::string directory;  ///< below the model's; "": the model's own
  nlohmann::json config;
  std::vector<SavedPart> parts;  ///< in its safetensors; none: only a config.json
  nlohmann::json preprocessor;   ///< preprocessor_config.json; empty: none
};

/// How a model is written:
///   - one part alone, or all parts of one whole model's directory: that directory again, as it was;
///   - any other composition: a directory whose config.json names the directories of its parts (foundation,
///     encoders/image, decoders/image, projectors), each a Hugging Face directory by itself.
/// options_of_directory() reads either.
std::vector<SavedFolder> saved_layout(OmniModel& model, const ModelOptions& options);

}  // namespace veomni::model
