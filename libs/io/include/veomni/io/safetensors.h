// SPDX-License-Identifier: Apache-2.0
/// Reading and writing one safetensors file: 8 bytes of header length, a JSON header, the data.
///
/// The reader accepts no file that the reference reader (Rust) refuses, and refuses some that it
/// takes: duplicate names, unknown fields of a tensor, a header that does not begin with '{', a null
/// `__metadata__`, and element types we cannot compute with. Everything is checked before any byte of
/// data is looked at. The machine must be little-endian, as the format is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "veomni/io/dtype.h"
#include "veomni/io/mapped_file.h"
#include "veomni/io/output_file.h"

namespace veomni::io {

using Metadata = std::map<std::string, std::string>;

/// A larger header is refused, as the format demands.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;
/// Far above any model (the largest have some 200,000 tensors): bounds the time a hostile header takes.
inline constexpr size_t kMaxTensors = 1'000'000;

/// One tensor's row in the header.
struct TensorInfo {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;   ///< [] is a scalar; a 0 in it is legal
  uint64_t begin = 0, end = 0;  ///< bytes, from the start of the data
  bool operator==(const TensorInfo&) const = default;
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< in the order of the data
  std::vector<uint32_t> by_name;    ///< indices into `tensors`, sorted by name
  Metadata metadata;

  /// nullptr if there is none of that name. O(log n).
  const TensorInfo* find(std::string_view name) const;
};

/// Parses and validates a header's JSON text. Pure; O(n log n) in its length.
/// @param data_bytes  size of the file after the header: the tensors must cover exactly this
/// @param where       the file's name, for messages
/// @throws Error naming `where` and, where it has one, the tensor
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> header_json,
                                           uint64_t data_bytes, const std::string& where);

/// A whole file in memory.
struct SafetensorsLayout {
  SafetensorsHeader header;
  uint64_t data_begin = 0;  ///< offset of the data in the file
};

/// The same for a whole file: checks the length prefix, then the header. Pure.
SafetensorsLayout parse_safetensors(std::span<const std::byte> file, const std::string& where);

/// A tensor inside a mapped file; valid as long as its SafetensorsFile.
struct TensorView {
  DType dtype = DType::F32;
  std::span<const int64_t> shape;
  std::span<const std::byte>
      bytes;  ///< row-major; aligned to the item size only if the writer cared
};

/// A safetensors file opened for reading; the data is paged in as it is touched.
class SafetensorsFile {
 public:
  /// @throws ConfigError if the file cannot be opened, Error if it is malformed or truncated
  explicit SafetensorsFile(const std::string& path);

  bool has(std::string_view name) const { return layout_.header.find(name) != nullptr; }
  /// @throws Error naming file and tensor (and the nearest name there is)
  TensorView tensor(std::string_view name) const;
  /// In the order of the data.
  std::vector<std::string> names() const;
  const Metadata& metadata() const { return layout_.header.metadata; }
  const SafetensorsHeader& header() const { return layout_.header; }
  /// Offset in the file of byte 0 of the data.
  uint64_t data_begin() const { return layout_.data_begin; }
  const std::string& path() const { return file_.path(); }

 private:
  MappedFile file_;
  SafetensorsLayout layout_;
};

/// What a writer must know of a tensor before its bytes.
struct TensorDecl {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;

  /// @throws Error on a negative dim or an overflow
  uint64_t num_bytes() const;
};

/// Writes one file, tensor by tensor, in any order and in pieces, so that no more than one piece need be
/// in memory. The data is laid out by falling item size, then name, which keeps every tensor aligned.
///
/// The header is padded with spaces to 8 bytes (strict readers refuse NUL). The file appears under its
/// name at finish(); a writer that dies earlier leaves nothing (WriteOptions::atomic).
class SafetensorsWriter {
 public:
  /// @throws Error on duplicate, reserved ("__metadata__") or non-UTF-8 names, or if the file cannot be made
  SafetensorsWriter(const std::string& path, std::vector<TensorDecl> tensors,
                    const Metadata& metadata = {}, WriteOptions options = {});

  /// Writes bytes [offset, offset + size) of a tensor. Every byte is to be written once.
  /// @throws Error on an unknown name, bytes outside the tensor, or a failing write
  void write(std::string_view name, std::span<const std::byte> bytes, uint64_t offset = 0);

  /// @throws Error naming a tensor whose bytes were not all written
  void finish();

 private:
  SafetensorsHeader header_;
  uint64_t data_begin_ = 0;
  std::vector<uint64_t> written_;  // bytes of each tensor so far
  OutputFile file_;
};

/// A tensor in memory, to be written.
struct TensorEntry {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Writes a whole file. Hugging Face readers want metadata {"format": "pt"}.
/// @throws Error as SafetensorsWriter, or if an entry's bytes do not fit its shape
void write_safetensors(const std::string& path, std::span<const TensorEntry> entries,
                       const Metadata& metadata = {}, WriteOptions options = {});

}  // namespace veomni::io
