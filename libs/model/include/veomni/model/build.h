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

/// preprocessor_config.json of a part's directory, or an empty object.
nlohmann::json preprocessor_config(const PartOptions& part, const ModelOptions& options);

/// A part of a built model, as it is written to a directory.
struct NamedPart {
  std::string name;  ///< "foundation", "encoders.image", "decoders.image", "projectors"
  nn::Module* module = nullptr;
  io::RuleSet rules;
  nlohmann::json config;
};
/// Every part in a fixed order, projectors last.
std::vector<NamedPart> parts_of(OmniModel& model);

}  // namespace veomni::model
