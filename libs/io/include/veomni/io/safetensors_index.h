// SPDX-License-Identifier: Apache-2.0
/// The weights of a Hugging Face directory: one safetensors file, or shards and their index.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "veomni/io/safetensors.h"

namespace veomni::io {

/// Where a tensor's bytes lie.
struct TensorLocation {
  std::string file;  ///< a path that can be opened
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  ///< of its first byte in the file
  uint64_t bytes = 0;
  bool operator==(const TensorLocation&) const = default;
};

/// Tensor names to places. Holds no file open and no data; only headers are read.
class SafetensorsIndex {
 public:
  /// An index of nothing, to add() to.
  SafetensorsIndex() = default;

  /// Takes `<directory>/model.safetensors`, else `<directory>/model.safetensors.index.json` and the
  /// shards it names. Tensors of a shard that the index leaves out are taken too, as `transformers` does.
  /// @throws ConfigError if there is neither, or the index names a file that is missing;
  ///         Error on a malformed index or shard, a tensor missing in the file the index gives for it, or
  ///         one that two shards hold
  static SafetensorsIndex open(const std::string& directory);

  /// One file.
  static SafetensorsIndex open_file(const std::string& path);

  /// @throws Error if the name is there already
  void add(const std::string& name, TensorLocation location);

  /// nullptr if there is none of that name.
  const TensorLocation* find(std::string_view name) const;
  /// @throws Error naming the place searched, the tensor and the nearest name there is
  const TensorLocation& at(std::string_view name) const;
  const std::map<std::string, TensorLocation, std::less<>>& tensors() const { return tensors_; }
  /// The directory or file it was opened from, for messages.
  const std::string& where() const { return where_; }

 private:
  std::string where_ = "the index";
  std::map<std::string, TensorLocation, std::less<>> tensors_;
};

/// Cuts tensors, in their order, into shards of at most `max_bytes` (a larger tensor stands alone).
/// Returns the indices of each shard's tensors; at least one shard. Pure.
/// @throws ConfigError if max_bytes is 0
std::vector<std::vector<size_t>> plan_shards(std::span<const TensorDecl> tensors,
                                             uint64_t max_bytes);

/// Writes `model.safetensors`, or `model-00001-of-0000N.safetensors` and `model.safetensors.index.json`
/// (metadata.total_size = bytes of all tensors) where one file would exceed `max_shard_bytes`.
///
/// Use as SafetensorsWriter. finish() completes the shards, then the index, then removes weight files of
/// these names that an earlier save left in the directory: a reader would prefer them.
class ShardedSafetensorsWriter {
 public:
  /// @param directory  exists
  ShardedSafetensorsWriter(const std::string& directory, const std::vector<TensorDecl>& tensors,
                           const Metadata& metadata, uint64_t max_shard_bytes,
                           WriteOptions options = {});

  void write(std::string_view name, std::span<const std::byte> bytes, uint64_t offset = 0);
  void finish();

  /// Names of the safetensors files inside the directory.
  const std::vector<std::string>& file_names() const { return file_names_; }

 private:
  void write_index() const;
  void remove_stale_files() const;

  std::string directory_;
  WriteOptions options_;
  uint64_t total_bytes_ = 0;
  std::vector<std::string> file_names_;
  std::vector<SafetensorsWriter> shards_;
  std::map<std::string, size_t, std::less<>> shard_of_;
};

}  // namespace veomni::io
