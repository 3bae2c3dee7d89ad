// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace veomni::media {

/// Numbers and names at places of a file that may be shorter than it should be: outside of it, bytes are 0 and names do
/// not match.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t size() const { return bytes_.size(); }
  /// Whether [at, at + length) lies inside.
  bool has(uint64_t at, uint64_t length) const {
    return at <= bytes_.size() && length <= bytes_.size() - at;
  }
  std::span<const std::byte> part(uint64_t at, uint64_t length) const {
    return has(at, length) ? bytes_.subspan(at, length) : std::span<const std::byte>();
  }
  bool matches(uint64_t at, std::string_view name) const {
    if (name.empty() || !has(at, name.size())) return name.empty();
    return std::memcmp(bytes_.data() + at, name.data(), name.size()) == 0;
  }

  uint8_t u8(uint64_t at) const { return has(at, 1) ? static_cast<uint8_t>(bytes_[at]) : 0; }
  uint32_t le16(uint64_t at) const { return u8(at) | u8(at + 1) << 8; }
  uint32_t le24(uint64_t at) const { return le16(at) | u8(at + 2) << 16; }
  uint32_t le32(uint64_t at) const { return le16(at) | le16(at + 2) << 16; }
  uint32_t be16(uint64_t at) const { return u8(at) << 8 | u8(at + 1); }
  uint32_t be32(uint64_t at) const { return be16(at) << 16 | be16(at + 2); }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace veomni::media
