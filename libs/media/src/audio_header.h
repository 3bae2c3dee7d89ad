// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "file_kind.h"

namespace veomni::media {

/// Walks a clip's blocks, where its format has lengths to check; decodes nothing.
/// @param kind  one of the four clips
/// Returns how many samples a channel its header says there are, where it says so; else 0.
/// @throws BadMedia for a file that ends before its header says, or whose blocks are broken
int64_t check_audio_file(FileKind kind, std::span<const std::byte> file, const std::string& where);

}  // namespace veomni::media
