// SPDX-License-Identifier: Apache-2.0
/// Well-formedness of UTF-8 (Unicode 15, table 3-7).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace veomni::data {

/// Bytes of the well-formed character at text[at], or 0.
/// @param bad_bytes  if none is there: length of the maximal ill-formed part, at least 1
int utf8_length(std::string_view text, size_t at, int* bad_bytes);

/// Offset of the first byte that is not part of a well-formed character, or npos.
size_t first_invalid_utf8(std::string_view text);

/// `text` with every maximal ill-formed part replaced by U+FFFD.
std::string to_valid_utf8(std::string_view text);

/// The code point at text[at], which starts a well-formed character; `at` moves behind it.
char32_t next_code_point(std::string_view text, size_t& at);

void append_utf8(std::string& out, char32_t code_point);

}  // namespace veomni::data
