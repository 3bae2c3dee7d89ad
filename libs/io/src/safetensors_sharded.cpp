// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "in_quotes.h"
#include "veomni/base/error.h"
#include "veomni/base/names.h"
#include "veomni/io/safetensors_index.h"

namespace veomni::io {

namespace {

namespace fs = std::filesystem;

std::string shard_name(size_t shard, size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", shard + 1, count);
  return name;
}

bool is_weight_file(const std::string& name) {
  return name == "model.safetensors" || name == "model.safetensors.index.json" ||
         matches_pattern(name, "model-*-of-*.safetensors");
}

}  // namespace

std::vector<std::vector<size_t>> plan_shards(std::span<const TensorDecl> tensors,
                                             uint64_t max_bytes) {
  VEOMNI_CHECK_CONFIG(max_bytes > 0, "the largest size of a weight file must be more than 0 bytes");
  std::vector<std::vector<size_t>> shards(1);
  uint64_t used = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t bytes = tensors[i].num_bytes();
    const bool fits = used <= max_bytes && bytes <= max_bytes - used;
    if (!fits && !shards.back().empty()) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(i);
    used += bytes;
  }
  return shards;
}

ShardedSafetensorsWriter::ShardedSafetensorsWriter(const std::string& directory,
                                                   const std::vector<TensorDecl>& tensors,
                                                   const Metadata& metadata,
                                                   uint64_t max_shard_bytes, WriteOptions options)
    : directory_(directory), options_(options) {
  const auto plan = plan_shards(tensors, max_shard_bytes);
  for (size_t shard = 0; shard < plan.size(); ++shard) {
    std::vector<TensorDecl> members;
    for (const size_t i : plan[shard]) {
      const bool fresh = shard_of_.emplace(tensors[i].name, shard).second;
      VEOMNI_CHECK(fresh, directory_, ": tensor ", in_quotes(tensors[i].name), " was given twice");
      total_bytes_ += tensors[i].num_bytes();
      members.push_back(tensors[i]);
    }
    file_names_.push_back(shard_name(shard, plan.size()));
    const std::string path = (fs::path(directory_) / file_names_.back()).string();
    shards_.emplace_back(path, std::move(members), metadata, options_);
  }
}

void ShardedSafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes,
                                     uint64_t offset) {
  const auto shard = shard_of_.find(name);
  VEOMNI_CHECK(shard != shard_of_.end(), directory_, ": tensor ", in_quotes(name),
               " was not declared");
  shards_[shard->second].write(name, bytes, offset);
}

void ShardedSafetensorsWriter::finish() {
  for (SafetensorsWriter& shard : shards_) shard.finish();
  if (shards_.size() > 1) write_index();
  remove_stale_files();
}

void ShardedSafetensorsWriter::write_index() const {
  nlohmann::json index;
  index["metadata"]["total_size"] = total_bytes_;
  nlohmann::json& weight_map = index["weight_map"] = nlohmann::json::object();
  for (const auto& [name, shard] : shard_of_) weight_map[name] = file_names_[shard];
  const std::string path = (fs::path(directory_) / "model.safetensors.index.json").string();
  write_file(path, index.dump(2) + "\n", options_);
}

void ShardedSafetensorsWriter::remove_stale_files() const {
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(directory_)) {
    const std::string name = entry.path().filename().string();
    const bool ours =
        std::find(file_names_.begin(), file_names_.end(), name) != file_names_.end() ||
        (shards_.size() > 1 && name == "model.safetensors.index.json");
    if (is_weight_file(name) && !ours) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) {
    std::error_code error;
    fs::remove(path, error);
    VEOMNI_CHECK(!error, "cannot remove the older weights ", path.string(), ": ", error.message());
  }
}

}  // namespace veomni::io
