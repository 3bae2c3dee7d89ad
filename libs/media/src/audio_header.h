// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "file_kind.h"

namespace veomni::media {

/// What a clip's blocks say before its sound is decoded.
struct AudioHeader {
  int64_t num_samples = 0;  ///< a channel, that its header promises; 0 where it promises nothing
  /// What is decoded beyond them is no sound; 0: nothing is. FFmpeg leaves it in an OGG that ends within its last but one
  /// packet.
  int64_t most_samples = 0;
  size_t end = 0;  ///< where the sound ends in the file; what follows is tags or junk
};

/// Walks a clip's blocks, where its format has lengths to check; decodes nothing.
/// @param kind  one of the four clips
/// @throws BadMedia for a file that ends before its header says, or whose blocks are broken
AudioHeader read_audio_header(FileKind kind, std::span<const std::byte> file,
                              const std::string& where);

}  // namespace veomni::media
