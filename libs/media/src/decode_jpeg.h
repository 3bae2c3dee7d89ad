// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "image_header.h"

namespace veomni::media {

/// A JPEG's pixels by libjpeg-turbo with its accurate inverse transform and "fancy" upsampling, which Pillow uses too: the
/// two give equal pixels. (FFmpeg's transforms round otherwise, and come out up to 3 levels away.)
/// Four channels are read as Pillow reads them: CMYK, inverted, without a colour profile.
/// Returns RGB [height, width, 3].
/// @throws BadMedia for damaged data, also where libjpeg would fill in what is missing
std::vector<uint8_t> decode_jpeg(std::span<const std::byte> file, const ImageHeader& header,
                                 const std::string& where);

}  // namespace veomni::media
