// SPDX-License-Identifier: Apache-2.0
#include "byte_alphabet.h"

#include "utf8.h"

namespace veomni::data {

namespace {
// Bytes that stand for themselves: '!'..'~', '¡'..'¬', '®'..'ÿ'.
bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::array<char32_t, 256> make_code_points() {
  std::array<char32_t, 256> points{};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) points[byte] = is_printable(byte) ? byte : next++;
  return points;
}

const std::array<char32_t, 256>& code_points() {
  static const std::array<char32_t, 256> points = make_code_points();
  return points;
}

// Code point -> byte, -1 where none. U+0143 is the highest: 256 bytes, 188 of them printable.
constexpr int kTableSize = 0x144;
std::array<int, kTableSize> make_inverse() {
  std::array<int, kTableSize> inverse;
  inverse.fill(-1);
  for (int byte = 0; byte < 256; ++byte) inverse[code_points()[byte]] = byte;
  return inverse;
}
}  // namespace

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> characters = [] {
    std::array<std::string, 256> made;
    for (int byte = 0; byte < 256; ++byte) append_utf8(made[byte], code_points()[byte]);
    return made;
  }();
  return characters;
}

std::optional<std::string> bytes_of_token(std::string_view token) {
  static const std::array<int, kTableSize> inverse = make_inverse();
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const char32_t code = next_code_point(token, at);
    const int byte = code < kTableSize ? inverse[code] : -1;
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

std::string token_of_bytes(std::string_view bytes) {
  std::string token;
  for (unsigned char byte : bytes) token += byte_characters()[byte];
  return token;
}

}  // namespace veomni::data
