// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "av.h"
#include "file_kind.h"
#include "image_header.h"

namespace veomni::media {

/// A decoded picture's pixels as Pillow's convert("RGB") has them: alpha is dropped, grey repeated, the upper 8 of 16 bits
/// kept. Returns RGB [height, width, 3].
/// @param header  of its file: deep grey is cut off at 255
/// @throws BadMedia for a pixel format that such a file cannot have
std::vector<uint8_t> frame_to_rgb(const AVFrame& frame, FileKind kind, const ImageHeader& header,
                                  const std::string& where);

}  // namespace veomni::media
