// SPDX-License-Identifier: Apache-2.0
/// A whole file in memory, read-only, paged in by the kernel as it is touched.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace veomni::io {

/// Moves, does not copy. An empty file is legal. The file must not shrink while it is mapped: reading
/// past its new end would be a SIGBUS.
class MappedFile {
 public:
  /// @throws ConfigError naming path and cause if it cannot be opened or is not a regular file
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace veomni::io
