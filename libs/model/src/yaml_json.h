// SPDX-License-Identifier: Apache-2.0
/// A recipe's inline config.json.
#pragma once

#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>

namespace veomni::model {

/// Plain scalars become numbers, booleans or null where they read as such; quoted ones stay strings.
nlohmann::json yaml_to_json(const YAML::Node& node);

}  // namespace veomni::model
