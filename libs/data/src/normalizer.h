// SPDX-License-Identifier: Apache-2.0
/// Unicode normalisation on utf8proc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "veomni/io/tokenizer_json.h"

namespace veomni::data {

/// Normalization form C. Text below U+0300 comes back as it is.
std::string to_nfc(std::string_view valid_utf8);

/// Applies every step in order.
std::string normalize(std::string_view valid_utf8, const std::vector<io::NormalizerKind>& steps);

}  // namespace veomni::data
