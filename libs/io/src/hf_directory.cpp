// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/hf_directory.h"

#include <filesystem>

#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"

namespace veomni::io {

namespace fs = std::filesystem;

HfDirectory HfDirectory::open(const std::string& path) {
  VEOMNI_CHECK_CONFIG(fs::exists(path), "model directory ", path, " does not exist");
  VEOMNI_CHECK_CONFIG(
      fs::is_directory(path), path,
      " is not a directory; name the Hugging Face directory that holds config.json");
  HfDirectory directory;
  directory.path_ = path;
  directory.config_path_ = (fs::path(path) / "config.json").string();
  const std::string& where = directory.config_path_;
  VEOMNI_CHECK_CONFIG(fs::exists(where), path,
                      " holds no config.json: not a Hugging Face model directory");
  directory.config_ = read_json_file(where);
  const nlohmann::json& config = directory.config_;
  VEOMNI_CHECK_CONFIG(config.is_object(), where, ": must be an object, is ", brief_json(config));
  directory.model_type_ = get_or(config, "model_type", "", where);
  if (has_value(config, "architectures")) {
    for (const nlohmann::json& name : require_array(config, "architectures", where)) {
      VEOMNI_CHECK_CONFIG(name.is_string(), where,
                          ": 'architectures' must be a list of strings, has ", brief_json(name));
      directory.architectures_.push_back(name.get<std::string>());
    }
  }
  return directory;
}

bool HfDirectory::has_weights() const {
  return find("model.safetensors") || find("model.safetensors.index.json");
}

std::optional<std::string> HfDirectory::find(const std::string& file_name) const {
  const fs::path file = fs::path(path_) / file_name;
  if (!fs::exists(file)) return std::nullopt;
  return file.string();
}

}  // namespace veomni::io
