// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "file_kind.h"

namespace veomni::media {

/// What a picture's file says before its pixels are decoded.
struct ImageHeader {
  int64_t height = 0, width = 0;  ///< as stored, before `orientation`
  int orientation = 1;            ///< EXIF's: 1 as stored … 8
  int channels = 0;               ///< JPEG
  bool deep_grey = false;         ///< PNG: 16 bits of grey, no alpha
  size_t picture_bytes = 0;       ///< where the (first) picture ends in the file
  /// GIF: where the first picture's flags (lowest bit: one colour is transparent), delay and transparent colour lie.
  std::optional<size_t> graphic_control;
};

/// Walks the file's blocks; decodes nothing and allocates nothing.
/// @param kind  one of the four pictures
/// @throws BadMedia for a file that is cut short or whose blocks are broken
ImageHeader read_image_header(FileKind kind, std::span<const std::byte> file,
                              const std::string& where);

}  // namespace veomni::media
