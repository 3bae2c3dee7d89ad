// SPDX-License-Identifier: Apache-2.0
/// GPT-2's printable stand-ins for bytes: how vocabularies of byte-level tokenizers are written.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace veomni::data {

/// The character of each byte, UTF-8. Printable Latin-1 bytes stand for themselves, the others, in
/// order, for U+0100 and up.
const std::array<std::string, 256>& byte_characters();

/// The bytes a token stands for; none if a character is not in the alphabet.
std::optional<std::string> bytes_of_token(std::string_view token);

/// The inverse: bytes as a vocabulary writes them.
std::string token_of_bytes(std::string_view bytes);

}  // namespace veomni::data
