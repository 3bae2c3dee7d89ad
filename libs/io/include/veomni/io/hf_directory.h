// SPDX-License-Identifier: Apache-2.0
/// A Hugging Face model directory: config.json, weights, tokenizer.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "veomni/io/safetensors_index.h"

namespace veomni::io {

class HfDirectory {
 public:
  /// Reads config.json only; weights are looked at when asked for.
  /// @throws ConfigError naming the path if the directory or its config.json is missing or is not a JSON
  ///         object (with line and column where it does not parse)
  static HfDirectory open(const std::string& path);

  const std::string& path() const { return path_; }
  const nlohmann::json& config() const { return config_; }
  /// Path of config.json: the `where` of json_fields.h.
  const std::string& config_path() const { return config_path_; }

  /// config.json's "architectures" ({} if absent) and "model_type" ("" if absent): a model's class is
  /// chosen by the first, then by the second.
  const std::vector<std::string>& architectures() const { return architectures_; }
  const std::string& model_type() const { return model_type_; }

  /// The safetensors of the directory. @throws as SafetensorsIndex::open
  SafetensorsIndex weights() const { return SafetensorsIndex::open(path_); }
  /// Whether there are any (a directory of a model to train from scratch has none).
  bool has_weights() const;

  /// Paths of files that need not be there.
  std::optional<std::string> tokenizer_json() const { return find("tokenizer.json"); }
  std::optional<std::string> generation_config() const { return find("generation_config.json"); }
  /// The path of any other file of the directory, if it is there.
  std::optional<std::string> find(const std::string& file_name) const;

 private:
  std::string path_, config_path_, model_type_;
  nlohmann::json config_;
  std::vector<std::string> architectures_;
};

}  // namespace veomni::io
