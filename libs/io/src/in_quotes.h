// SPDX-License-Identifier: Apache-2.0
/// Names out of files, made safe for one line of an error message.
#pragma once

#include <string>
#include <string_view>

namespace veomni::io {

/// 'text' in quotes, control characters as \xNN, cut after 120 bytes: a name in a broken file may be megabytes long.
inline std::string in_quotes(std::string_view text) {
  constexpr size_t kLongest = 120;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + (text.size() > kLongest ? "...'" : "'");
}

}  // namespace veomni::io
