// SPDX-License-Identifier: Apache-2.0
/// One record's bytes to a Record.
#pragma once

#include <string>
#include <string_view>

#include "veomni/data/source.h"

namespace veomni::data {

/// The forms that FileSourceOptions::format names for jsonl; docs/data.md shows each. Other keys are ignored. Locations
/// come back as written, relative paths unresolved.
/// @throws BadRecord whose text is the reason alone.
Record parse_json_record(std::string_view line);

/// @throws BadRecord likewise.
Record parse_text_record(std::string_view text);

}  // namespace veomni::data
