// SPDX-License-Identifier: Apache-2.0
/// From luma and subsampled chroma to RGB, in the arithmetic of the two reference decoders, libjpeg and libwebp: with
/// libswscale's, pictures with subsampled chroma come out up to 65 levels away from what they give.
#pragma once

#include <cstdint>
#include <vector>

namespace veomni::media {

/// One 8-bit channel, rows `stride` bytes apart.
struct Plane {
  const uint8_t* data = nullptr;
  int64_t stride = 0, height = 0, width = 0;
  const uint8_t* row(int64_t y) const { return data + y * stride; }
};

/// Luma of the picture's size, chroma of ⌈size / factor⌉.
struct Yuv {
  Plane y, cb, cr;
  int horizontal_factor = 1, vertical_factor = 1;
};

/// Full-range BT.601 with libjpeg's "fancy" upsampling (a triangle filter; other factors than 1 and 2: repetition).
/// Returns RGB [height, width, 3].
std::vector<uint8_t> jpeg_to_rgb(const Yuv& yuv);

/// Limited-range BT.601 with libwebp's "fancy" upsampling; both factors must be 2.
std::vector<uint8_t> webp_to_rgb(const Yuv& yuv);

}  // namespace veomni::media
