// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "in_quotes.h"
#include "veomni/base/error.h"
#include "veomni/io/safetensors.h"

namespace veomni::io {

namespace {

std::string json_string(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw_error("cannot write the name " + in_quotes(text) + " to safetensors: it is not UTF-8");
  }
}

std::string metadata_json(const Metadata& metadata) {
  std::string text = "\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    if (text.back() != '{') text += ',';
    text += json_string(key) + ":" + json_string(value);
  }
  return text + "}";
}

std::string tensor_json(const TensorDecl& tensor, uint64_t begin, uint64_t end) {
  const std::string offsets = std::to_string(begin) + "," + std::to_string(end);
  return json_string(tensor.name) + ":{\"dtype\":\"" + dtype_name(tensor.dtype) +
         "\",\"shape\":" + shape_text(tensor.shape) + ",\"data_offsets\":[" + offsets + "]}";
}

/// The header for these tensors, padded so that the data begins at a multiple of 8.
/// @param data_bytes  set to the size of the data
std::string header_json(std::vector<TensorDecl> tensors, const Metadata& metadata,
                        uint64_t& data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorDecl& a, const TensorDecl& b) {
    const int64_t size_a = item_size(a.dtype), size_b = item_size(b.dtype);
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
  std::string text = "{";
  if (!metadata.empty()) text += metadata_json(metadata);
  data_bytes = 0;
  for (const TensorDecl& tensor : tensors) {
    VEOMNI_CHECK(tensor.name != "__metadata__",
                 "a tensor cannot be named __metadata__ in safetensors");
    uint64_t end = 0;
    VEOMNI_CHECK(!__builtin_add_overflow(data_bytes, tensor.num_bytes(), &end),
                 "the size of the file overflows at tensor ", in_quotes(tensor.name));
    if (text.size() > 1) text += ',';
    text += tensor_json(tensor, data_bytes, end);
    data_bytes = end;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<TensorDecl> tensors,
                                     const Metadata& metadata, WriteOptions options)
    : file_(path, options) {
  uint64_t data_bytes = 0;
  const std::string json = header_json(std::move(tensors), metadata, data_bytes);
  // Reading our own header back refuses whatever a reader would (names given twice, too many tensors).
  header_ = parse_safetensors_header(std::as_bytes(std::span(json)), data_bytes, path);
  written_.resize(header_.tensors.size());
  data_begin_ = 8 + json.size();
  const uint64_t length = json.size();
  file_.write_at(0, std::as_bytes(std::span(&length, 1)));
  file_.write_at(8, std::as_bytes(std::span(json)));
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes,
                              uint64_t offset) {
  const TensorInfo* tensor = header_.find(name);
  VEOMNI_CHECK(tensor != nullptr, file_.path(), ": tensor ", in_quotes(name), " was not declared");
  const uint64_t size = tensor->end - tensor->begin;
  VEOMNI_CHECK(offset <= size && bytes.size() <= size - offset, file_.path(), ": bytes [", offset,
               ", ", offset + bytes.size(), ") lie outside tensor ", in_quotes(name), " of ", size,
               " bytes");
  file_.write_at(data_begin_ + tensor->begin + offset, bytes);
  written_[static_cast<size_t>(tensor - header_.tensors.data())] += bytes.size();
}

void SafetensorsWriter::finish() {
  for (size_t i = 0; i < written_.size(); ++i) {
    const TensorInfo& tensor = header_.tensors[i];
    VEOMNI_CHECK(written_[i] == tensor.end - tensor.begin, file_.path(), ": ", written_[i], " of ",
                 tensor.end - tensor.begin, " bytes of tensor ", in_quotes(tensor.name),
                 " were written");
  }
  file_.commit();
}

void write_safetensors(const std::string& path, std::span<const TensorEntry> entries,
                       const Metadata& metadata, WriteOptions options) {
  std::vector<TensorDecl> tensors;
  for (const TensorEntry& entry : entries)
    tensors.push_back({entry.name, entry.dtype, entry.shape});
  SafetensorsWriter writer(path, std::move(tensors), metadata, options);
  for (const TensorEntry& entry : entries) writer.write(entry.name, entry.bytes);
  writer.finish();
}

}  // namespace veomni::io
