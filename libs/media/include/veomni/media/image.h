// SPDX-License-Identifier: Apache-2.0
/// Pictures: decoding, resizing, writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace veomni::media {

/// 8-bit RGB, [height, width, 3], row-major.
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

/// JPEG, PNG, WebP or GIF (its first frame), told apart by content, not by name; turned as EXIF says.
///
/// The pixels are those of Pillow's convert("RGB"): grey becomes R = G = B, alpha and transparent colours are dropped (what
/// lies beneath them shows), of 16 bits a colour the upper 8 are kept, but 16 bits of grey are cut off at 255. Equal to
/// the bit for all four. An animated WebP is refused.
/// @throws BadMedia
Image decode_image(std::span<const std::byte> file, const std::string& where,
                   const ImageLimits& limits = {});

/// Equal pictures give equal bytes. @throws Error for an empty picture or a side above 32768
std::vector<std::byte> encode_png(const Image& image);

/// Antialiased bicubic (a = −0.5), rounded to 8 bits after each axis: what Pillow's BICUBIC gives,
/// to the bit. @throws Error for an empty side
Image resize_bicubic(const Image& image, int64_t height, int64_t width);

}  // namespace veomni::media
