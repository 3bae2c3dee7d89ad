// SPDX-License-Identifier: Apache-2.0
#include "pieces.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"
#include "veomni/nn/dtype.h"

namespace veomni::checkpoint {

namespace {
// PyTorch's distributed checkpoint reads where a file's tensors lie in the full ones from here.
constexpr const char* kShardingInfo = "DCP_SHARDING_INFO";
constexpr const char* kDcpVersion = "DCP_VERSION";
}  // namespace

void write_pieces(const std::string& path, const std::vector<Piece>& pieces) {
  auto info = nlohmann::json::object();
  std::vector<io::TensorEntry> entries;
  for (const auto& piece : pieces) {
    std::vector<int64_t> offsets(piece.rows.dim(), 0);
    if (!offsets.empty()) offsets[0] = piece.first_row;
    info[piece.name] = {{"saved_offsets", offsets}};
    entries.push_back({piece.name, nn::io_dtype(piece.rows.scalar_type()), piece.rows.sizes().vec(),
                       nn::tensor_bytes(piece.rows)});
  }
  const io::Metadata metadata = {
      {"format", "pt"}, {kShardingInfo, info.dump()}, {kDcpVersion, "1.0"}};
  io::write_safetensors(path, entries, metadata, {.fsync = true});
}

PieceIndex::PieceIndex(const std::string& directory) : directory_(directory) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    const auto& file = *files_.emplace_back(std::make_unique<io::SafetensorsFile>(path));
    const auto found = file.metadata().find(kShardingInfo);
    VEOMNI_CHECK(found != file.metadata().end(), path, ": no ", kShardingInfo,
                 " in its metadata; not a checkpoint's file");
    const auto info = io::parse_json(found->second, path + ": " + kShardingInfo);
    for (const auto& name : file.names()) {
      VEOMNI_CHECK(info.contains(name), path, ": tensor ", name, " has no entry in ",
                   kShardingInfo);
      const auto& offsets = io::require_array(info[name], "saved_offsets", path);
      pieces_[name].push_back({&file, offsets.empty() ? 0 : offsets[0].get<int64_t>()});
    }
  }
}

torch::Tensor PieceIndex::read(const std::string& name, const io::ShardSpec& shard,
                               torch::ScalarType dtype) const {
  const auto found = pieces_.find(name);
  VEOMNI_CHECK(found != pieces_.end(), directory_, ": tensor ", name, " is missing");
  auto out = torch::empty(shard.local_shape(), torch::dtype(dtype));
  const bool scalar = shard.full_shape.empty();
  const int64_t begin = shard.shards.empty() ? 0 : shard.shards[0].begin;
  const int64_t rows = scalar ? 1 : out.size(0);
  int64_t covered = 0;
  for (const Place& place : found->second) {
    const auto view = place.file->tensor(name);
    const std::vector<int64_t> shape(view.shape.begin(), view.shape.end());
    VEOMNI_CHECK(
        shape.size() == shard.full_shape.size() &&
            (scalar || std::equal(shape.begin() + 1, shape.end(), shard.full_shape.begin() + 1)),
        place.file->path(), ": tensor ", name, " has shape ", io::shape_text(shape),
        ", the model's is ", io::shape_text(shard.full_shape));
    const int64_t first = std::max(begin, place.first_row);
    const int64_t last = std::min(begin + rows, place.first_row + (scalar ? 1 : shape[0]));
    if (first >= last) continue;
    auto piece = torch::from_blob(const_cast<std::byte*>(view.bytes.data()), shape,
                                  torch::dtype(nn::torch_dtype(view.dtype)));
    if (scalar) {
      out.copy_(piece);
    } else {
      out.narrow(0, first - begin, last - first)
          .copy_(piece.narrow(0, first - place.first_row, last - first));
    }
    covered += last - first;
  }
  VEOMNI_CHECK(covered == rows, directory_, ": tensor ", name, ": files hold ", covered, " of the ",
               rows, " rows from ", begin);
  return out;
}

}  // namespace veomni::checkpoint
