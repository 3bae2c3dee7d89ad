// SPDX-License-Identifier: Apache-2.0
/// Base64 (RFC 4648 section 4), strict.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace veomni::data {

/// Taken: the standard alphabet, padded to a multiple of 4 characters, no blanks, no bit set behind the last byte; so
/// that every byte string has one form. Empty text is no bytes.
/// @throws BadRecord whose text is the reason alone
std::vector<std::byte> decode_base64(std::string_view text);

}  // namespace veomni::data
