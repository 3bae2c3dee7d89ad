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

std::vector<Piece> pieces_of(const std::string& name, const torch::Tensor& local,
                             const io::ShardSpec& shard) {
  std::vector<Piece> pieces;
  const auto flat = local.detach().contiguous().view({-1});
  for (const auto& box : io::boxes(shard)) {
    pieces.push_back({name,
                      flat.narrow(0, box.local_begin, io::num_elements(box.shape)).view(box.shape),
                      box.offsets});
  }
  return pieces;
}

namespace {

void write_file(const std::string& path, const std::vector<Piece>& pieces) {
  auto info = nlohmann::json::object();
  std::vector<io::TensorEntry> entries;
  for (const auto& piece : pieces) {
    info[piece.name] = {{"saved_offsets", piece.offsets}};
    entries.push_back({piece.name, nn::io_dtype(piece.values.scalar_type()),
                       piece.values.sizes().vec(), nn::tensor_bytes(piece.values)});
  }
  const io::Metadata metadata = {
      {"format", "pt"}, {kShardingInfo, info.dump()}, {kDcpVersion, "1.0"}};
  io::write_safetensors(path, entries, metadata, {.fsync = true});
}

}  // namespace

void write_pieces(const std::string& stem, const std::vector<Piece>& pieces) {
  std::map<std::string, size_t> used;
  std::vector<std::vector<Piece>> files(1);
  for (const auto& piece : pieces) {
    const size_t file = used[piece.name]++;
    if (file == files.size()) files.emplace_back();
    files[file].push_back(piece);
  }
  for (size_t i = 0; i < files.size(); ++i) {
    write_file(stem + (i ? "_part_" + std::to_string(i) : "") + ".safetensors", files[i]);
  }
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
      pieces_[name].push_back({&file, offsets.get<std::vector<int64_t>>()});
    }
  }
}

/// Where a piece lies in the tensor of which `shard` is wanted.
io::ShardSpec PieceIndex::box_of(const std::string& name, const Place& place,
                                 const io::ShardSpec& shard) const {
  const auto& shape = place.file->tensor(name).shape;
  const auto& full = shard.full_shape;
  bool fits = shape.size() == full.size() && place.offsets.size() == full.size();
  for (size_t d = 0; fits && d < full.size(); ++d)
    fits = place.offsets[d] >= 0 && place.offsets[d] <= full[d] - shape[d];
  VEOMNI_CHECK(fits, place.file->path(), ": tensor ", name, " has shape ", io::shape_text(shape),
               " at ", io::shape_text(place.offsets), ", the model's is ", io::shape_text(full));
  auto box = io::ShardSpec::whole(full);
  for (size_t d = 0; d < full.size(); ++d)
    box = box.with(static_cast<int64_t>(d), {place.offsets[d], shape[d]});
  return box;
}

torch::Tensor PieceIndex::read(const std::string& name, const io::ShardSpec& shard,
                               torch::ScalarType dtype) const {
  const auto found = pieces_.find(name);
  VEOMNI_CHECK(found != pieces_.end(), directory_, ": tensor ", name, " is missing");
  auto out = torch::empty({shard.local_numel()}, torch::dtype(dtype));
  const auto wanted = io::element_runs(shard);
  int64_t covered = 0;
  for (const Place& place : found->second) {
    const auto view = place.file->tensor(name);
    const auto held = io::element_runs(box_of(name, place, shard));
    const auto values =
        torch::from_blob(const_cast<std::byte*>(view.bytes.data()), {io::num_elements(view.shape)},
                         torch::dtype(nn::torch_dtype(view.dtype)));
    // Both lists are in the full tensor's order.
    for (size_t w = 0, h = 0; w < wanted.size() && h < held.size();) {
      const int64_t wanted_end = wanted[w].full_begin + wanted[w].length,
                    held_end = held[h].full_begin + held[h].length;
      const int64_t first = std::max(wanted[w].full_begin, held[h].full_begin),
                    length = std::min(wanted_end, held_end) - first;
      if (length > 0) {
        out.narrow(0, wanted[w].local_begin + first - wanted[w].full_begin, length)
            .copy_(values.narrow(0, held[h].local_begin + first - held[h].full_begin, length));
        covered += length;
      }
      ++(wanted_end <= held_end ? w : h);
    }
  }
  VEOMNI_CHECK(covered == out.numel(), directory_, ": tensor ", name, ": files hold ", covered,
               " of the ", out.numel(), " elements wanted");
  return out.view(shard.local_shape());
}

}  // namespace veomni::checkpoint
