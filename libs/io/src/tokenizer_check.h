// SPDX-License-Identifier: Apache-2.0
/// What holds for every TokenizerSpec.
#pragma once

#include <string>

#include "veomni/io/tokenizer_json.h"

namespace veomni::io {

/// @throws ConfigError naming `where`, the JSON path and the value that breaks a promise of TokenizerSpec
void check_tokenizer(const TokenizerSpec& spec, const std::string& where);

}  // namespace veomni::io
