// SPDX-License-Identifier: Apache-2.0
#include "base64.h"

#include <array>
#include <cstdint>
#include <string>

#include "veomni/data/source.h"

namespace veomni::data {

namespace {
constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNone = 0xFF;

constexpr std::array<uint8_t, 256> value_of_character() {
  std::array<uint8_t, 256> values{};
  values.fill(kNone);
  for (size_t i = 0; i < kAlphabet.size(); ++i) values[static_cast<uint8_t>(kAlphabet[i])] = i;
  return values;
}
constexpr std::array<uint8_t, 256> kValues = value_of_character();

uint32_t value_at(std::string_view text, size_t at) {
  const uint8_t value = kValues[static_cast<uint8_t>(text[at])];
  if (value == kNone) throw BadRecord("base64: no digit at character " + std::to_string(at));
  return value;
}
}  // namespace

std::vector<std::byte> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) {
    throw BadRecord("base64: " + std::to_string(text.size()) +
                    " characters are no multiple of 4 (padding is needed)");
  }
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  const size_t digits = text.size() - padding;
  std::vector<std::byte> bytes(text.size() / 4 * 3 - padding);
  size_t out = 0;
  uint32_t bits = 0;  // digits that have not left as bytes, `held` bits of them
  int held = 0;
  for (size_t i = 0; i < digits; ++i) {
    bits = bits << 6 | value_at(text, i);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes[out++] = static_cast<std::byte>(bits >> held & 0xFF);
  }
  if ((bits & ((1u << held) - 1)) != 0)
    throw BadRecord("base64: bits are set behind the last byte");
  return bytes;
}

}  // namespace veomni::data
