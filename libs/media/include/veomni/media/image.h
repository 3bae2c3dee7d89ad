// SPDX-License-Identifier: Apache-2.0
/// Pictures: decoding, resizing, writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace veomni::media {

/// 8-bit RGB, [height, width, 3], row-major. Alpha is composed on white; grey becomes R = G = B.
struct Image {
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> rgb;
};

/// Checked on the header, before memory for the picture exists.
struct ImageLimits {
  int64_t max_pixels = int64_t{1} << 26;
  double max_ratio = 200;  ///< longer side over the shorter
};

/// JPEG, PNG, WebP or GIF (its first frame), told apart by content, not by name. @throws BadMedia
Image decode_image(std::span<const std::byte> file, const std::string& where,
                   const ImageLimits& limits = {});

std::vector<std::byte> encode_png(const Image& image);

/// Antialiased bicubic (a = −0.5), rounded to 8 bits after each axis: what Pillow's BICUBIC gives.
Image resize_bicubic(const Image& image, int64_t height, int64_t width);

}  // namespace veomni::media
