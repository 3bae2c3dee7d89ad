// SPDX-License-Identifier: Apache-2.0
/// One record's bytes to a Record.
#pragma once

#include <string>
#include <string_view>

#include "veomni/data/source.h"

namespace veomni::data {

/// {"messages": [{"role", "content"}, …]} or {"text"}; other keys are ignored. A message's content may
/// also be a list of {"type": "text", "text"} parts.
/// @throws BadRecord whose text is the reason alone.
Record parse_json_record(std::string_view line);

/// @throws BadRecord likewise.
Record parse_text_record(std::string_view text);

}  // namespace veomni::data
