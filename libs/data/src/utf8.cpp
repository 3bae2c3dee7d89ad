// SPDX-License-Identifier: Apache-2.0
#include "utf8.h"

namespace veomni::data {

namespace {
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes a character starting with `lead` has, and the range of its second byte; length 0: no lead byte.
struct Lead {
  int length;
  unsigned char low, high;
};

Lead lead_of(unsigned char lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}
}  // namespace

int utf8_length(std::string_view text, size_t at, int* bad_bytes) {
  const Lead lead = lead_of(static_cast<unsigned char>(text[at]));
  if (lead.length == 0) {
    *bad_bytes = 1;
    return 0;
  }
  unsigned char low = lead.low, high = lead.high;
  for (int i = 1; i < lead.length; ++i) {
    const bool in_range = at + i < text.size() && static_cast<unsigned char>(text[at + i]) >= low &&
                          static_cast<unsigned char>(text[at + i]) <= high;
    if (!in_range) {
      *bad_bytes = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return lead.length;
}

size_t first_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    int bad_bytes = 0;
    const int length = utf8_length(text, at, &bad_bytes);
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t good = first_invalid_utf8(text);
    out.append(text.substr(0, good));
    if (good == std::string_view::npos) break;
    int bad_bytes = 0;
    utf8_length(text, good, &bad_bytes);
    out.append(kReplacement);
    text.remove_prefix(good + bad_bytes);
  }
  return out;
}

char32_t next_code_point(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  char32_t code = lead;
  size_t length = 1;
  if (lead >= 0xF0) {
    code =
        (lead & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu);
    length = 4;
  } else if (lead >= 0xE0) {
    code = (lead & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
    length = 3;
  } else if (lead >= 0xC0) {
    code = (lead & 0x1Fu) << 6 | (byte(1) & 0x3Fu);
    length = 2;
  }
  at += length;
  return code;
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace veomni::data
