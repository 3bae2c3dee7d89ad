// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/safetensors_index.h"

#include <filesystem>
#include <set>

#include "in_quotes.h"
#include "veomni/base/error.h"
#include "veomni/base/names.h"
#include "veomni/io/json_fields.h"

namespace veomni::io {

namespace {

namespace fs = std::filesystem;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

TensorLocation location(const SafetensorsFile& file, const TensorInfo& tensor) {
  return {file.path(), tensor.dtype, tensor.shape, file.data_begin() + tensor.begin,
          tensor.end - tensor.begin};
}

/// weight_map of an index file: tensor name -> file name.
std::map<std::string, std::string> read_weight_map(const std::string& path) {
  const nlohmann::json index = read_json_file(path);
  const nlohmann::json& rows = require_object(index, "weight_map", path);
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : rows.items()) {
    VEOMNI_CHECK(file.is_string(), path, ": weight_map gives no file name for tensor ",
                 in_quotes(tensor));
    const std::string name = file.get<std::string>();
    // An index must not lead out of its directory.
    VEOMNI_CHECK(!name.empty() && fs::path(name).filename() == name && name != "..", path,
                 ": weight_map names the file ", in_quotes(name), ", needs a plain file name");
    map.emplace(tensor, name);
  }
  return map;
}

SafetensorsIndex open_sharded(const std::string& directory) {
  const std::string index_path = (fs::path(directory) / kIndexFile).string();
  const auto weight_map = read_weight_map(index_path);
  std::map<std::string, std::string> tensor_of_file;  // one that needs it, for messages
  for (const auto& [tensor, file] : weight_map) tensor_of_file.emplace(file, tensor);

  SafetensorsIndex index;
  std::map<std::string, std::string> extra;  // tensors the index does not name -> file
  for (const auto& [name, tensor] : tensor_of_file) {
    const std::string path = (fs::path(directory) / name).string();
    VEOMNI_CHECK_CONFIG(fs::exists(path), index_path, " names ", in_quotes(name), " (for tensor ",
                        in_quotes(tensor), "), but ", path,
                        " does not exist: the download is incomplete");
    const SafetensorsFile file(path);
    for (const TensorInfo& info : file.header().tensors) {
      const auto mapped = weight_map.find(info.name);
      if (mapped != weight_map.end() && mapped->second != name) continue;
      const auto [other, fresh] = extra.emplace(info.name, name);
      VEOMNI_CHECK(fresh, index_path, ": tensor ", in_quotes(info.name), " is in both ",
                   other->second, " and ", name);
      index.add(info.name, location(file, info));
    }
  }
  for (const auto& [tensor, file] : weight_map) {
    VEOMNI_CHECK(index.find(tensor) != nullptr, index_path, " says that tensor ", in_quotes(tensor),
                 " is in ", file, ", which does not hold it");
  }
  return index;
}

}  // namespace

SafetensorsIndex SafetensorsIndex::open_file(const std::string& path) {
  SafetensorsIndex index;
  index.where_ = path;
  const SafetensorsFile file(path);
  for (const TensorInfo& info : file.header().tensors) index.add(info.name, location(file, info));
  return index;
}

SafetensorsIndex SafetensorsIndex::open(const std::string& directory) {
  const fs::path single = fs::path(directory) / kSingleFile;
  if (fs::exists(single)) return open_file(single.string());
  VEOMNI_CHECK_CONFIG(fs::exists(fs::path(directory) / kIndexFile), directory, " holds neither ",
                      kSingleFile, " nor ", kIndexFile);
  SafetensorsIndex index = open_sharded(directory);
  index.where_ = directory;
  return index;
}

void SafetensorsIndex::add(const std::string& name, TensorLocation location) {
  const bool fresh = tensors_.emplace(name, std::move(location)).second;
  VEOMNI_CHECK(fresh, where_, ": tensor ", in_quotes(name), " is there twice");
}

const TensorLocation* SafetensorsIndex::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const TensorLocation& SafetensorsIndex::at(std::string_view name) const {
  const TensorLocation* found = find(name);
  if (found != nullptr) return *found;
  std::vector<std::string> names;
  for (const auto& [known, unused] : tensors_) names.push_back(known);
  const std::string nearest = nearest_name(name, names);
  throw_error(detail::concat(where_, " has no tensor ", in_quotes(name),
                             nearest.empty() ? "" : "; did you mean ", nearest));
}

}  // namespace veomni::io
