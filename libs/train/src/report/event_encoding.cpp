// SPDX-License-Identifier: Apache-2.0
#include "report/event_encoding.h"

#include <array>
#include <bit>
#include <cstring>

namespace veomni::events {

namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    // 0x82F63B78: the Castagnoli polynomial, bits reversed.
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}
constexpr auto kCrcTable = make_crc_table();

// A CRC over data that contains CRCs is weak; TFRecord therefore stores it rotated and shifted.
uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

static_assert(std::endian::native == std::endian::little,
              "fixed-width fields are copied as they lie in memory");

template <typename T> std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes += static_cast<char>(value);
}

enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
std::string key(int number, WireType type) {
  return varint(static_cast<uint64_t>(number) << 3 | type);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (char c : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

std::string record(std::string_view data) {
  const std::string length = raw<uint64_t>(data.size());
  return length + raw(masked_crc(length)) + std::string(data) + raw(masked_crc(data));
}

std::string varint_field(int number, uint64_t value) {
  return key(number, kVarint) + varint(value);
}
std::string double_field(int number, double value) { return key(number, kFixed64) + raw(value); }
std::string float_field(int number, float value) { return key(number, kFixed32) + raw(value); }
std::string bytes_field(int number, std::string_view bytes) {
  return key(number, kBytes) + varint(bytes.size()) + std::string(bytes);
}

}  // namespace veomni::events
