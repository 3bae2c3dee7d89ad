// SPDX-License-Identifier: Apache-2.0
#include "webp_rgb.h"

#include <algorithm>

namespace veomni::media {

namespace {

uint8_t clamp8(int value) { return static_cast<uint8_t>(std::clamp(value, 0, 255)); }

// RGB of one pixel, in libwebp's 14-bit fixed point.

int times(int value, int coefficient) { return (value * coefficient) >> 8; }

uint8_t from_6_bits(int value) { return clamp8(value >> 6); }

struct Chroma {
  int u, v;
};

void put_webp_pixel(int y, Chroma c, uint8_t* rgb) {
  const int luma = times(y, 19077);
  rgb[0] = from_6_bits(luma + times(c.v, 26149) - 14234);
  rgb[1] = from_6_bits(luma - times(c.u, 6419) - times(c.v, 13320) + 8708);
  rgb[2] = from_6_bits(luma + times(c.u, 33050) - 17685);
}

// One channel of a luma pixel's chroma between four samples: 9/16 the nearest, 3/16 each beside it, 1/16 the far one,
// rounded where libwebp rounds.
int blend(int near, int beside, int across, int far) {
  const int average = near + beside + across + far + 8;
  return (((average + 2 * (beside + across)) >> 3) + near) >> 1;
}

// A luma row between its own chroma row and the other one that it borders.
void put_webp_row(const Yuv& yuv, int64_t y, int64_t near_row, int64_t far_row, uint8_t* rgb) {
  const uint8_t *near_u = yuv.cb.row(near_row), *far_u = yuv.cb.row(far_row);
  const uint8_t *near_v = yuv.cr.row(near_row), *far_v = yuv.cr.row(far_row);
  const uint8_t* luma = yuv.y.row(y);
  const int64_t width = yuv.y.width;
  for (int64_t x = 0; x < width; ++x) {
    const int64_t i = x / 2, j = i + (x % 2 ? 1 : -1);
    Chroma c;
    if (j < 0 || (j >= yuv.cb.width)) {
      c = {(3 * near_u[i] + far_u[i] + 2) >> 2, (3 * near_v[i] + far_v[i] + 2) >> 2};
    } else {
      c = {blend(near_u[i], near_u[j], far_u[i], far_u[j]),
           blend(near_v[i], near_v[j], far_v[i], far_v[j])};
    }
    put_webp_pixel(luma[x], c, rgb + 3 * x);
  }
}

}  // namespace

std::vector<uint8_t> webp_to_rgb(const Yuv& yuv) {
  std::vector<uint8_t> rgb(yuv.y.height * yuv.y.width * 3);
  for (int64_t y = 0; y < yuv.y.height; ++y) {
    const int64_t near = y / 2;
    const int64_t far = std::clamp<int64_t>(near + (y % 2 ? 1 : -1), 0, yuv.cb.height - 1);
    put_webp_row(yuv, y, near, far, rgb.data() + y * yuv.y.width * 3);
  }
  return rgb;
}

}  // namespace veomni::media
