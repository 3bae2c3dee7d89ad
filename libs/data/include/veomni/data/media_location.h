// SPDX-License-Identifier: Apache-2.0
/// Where a record's pictures and clips lie, and their bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace veomni::data {

/// What a record says of a place -> MediaPart::location: paths and base64 data: URIs stay as they are, file: URIs become
/// paths. @throws BadRecord (the reason alone) for anything else: remote places, other data: URIs, nothing at all
std::string parse_location(std::string text);

/// A relative path becomes one below `directory`; everything else stays.
std::string resolve_location(std::string location, const std::string& directory);

/// For messages: the path, or a data: URI's head and length.
std::string describe_location(const std::string& location);

/// @throws BadRecord (the reason alone) for a file that cannot be read or has more than max_bytes, and for base64 that is
///         none
std::vector<std::byte> read_location(const std::string& location, int64_t max_bytes);

}  // namespace veomni::data
