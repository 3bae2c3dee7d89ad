// SPDX-License-Identifier: Apache-2.0
/// The one explicit list of what this build can make.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "veomni/model/foundation.h"

namespace veomni::model {

/// One row of `veomni models`.
struct ModelEntry {
  std::string kind;                        ///< "foundation", "encoder", "decoder"
  std::string model_type;                  ///< config.json's model_type
  std::vector<std::string> architectures;  ///< config.json's architectures it answers to
  std::string summary;
};

/// Everything registered, sorted by kind and name.
std::vector<ModelEntry> registered_models();

/// Makes the foundation a config.json asks for: by `architectures`, then by `model_type`.
/// @param where  the file, for error texts
/// @throws ConfigError that lists the known ones
std::unique_ptr<Foundation> make_foundation(const nlohmann::json& config, const std::string& where,
                                            const nn::ParamOptions& options);

}  // namespace veomni::model
