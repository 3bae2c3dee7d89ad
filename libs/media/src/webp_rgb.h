// SPDX-License-Identifier: Apache-2.0
/// From luma and subsampled chroma to RGB in libwebp's arithmetic: with libswscale's, pictures come out up to 65 levels away
/// from what it gives.
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

/// Luma of the picture's size, chroma of half of it, rounded up.
struct Yuv {
  Plane y, cb, cr;
};

/// Limited-range BT.601 with libwebp's "fancy" upsampling. Returns RGB [height, width, 3].
std::vector<uint8_t> webp_to_rgb(const Yuv& yuv);

}  // namespace veomni::media
