// SPDX-License-Identifier: Apache-2.0
#include "yuv_rgb.h"

#include <algorithm>
#include <array>

namespace veomni::media {

namespace {

uint8_t clamp8(int value) { return static_cast<uint8_t>(std::clamp(value, 0, 255)); }

// libjpeg: chroma is made as wide and as high as luma, row by row.

// Doubles a row of sums by the filter (3·near + far); `shift` bits go, and the halves that a pixel left of its sample
// and right of it round by differ, as libjpeg's do.
template <typename Sample>
void double_row(const Sample* in, int64_t n, int shift, int round_left, int round_right,
                uint8_t* out) {
  const auto put = [&](int64_t x, int sum, int round) {
    out[x] = static_cast<uint8_t>((sum + round) >> shift);
  };
  put(0, 4 * in[0], round_left);
  for (int64_t i = 0; i < n; ++i) {
    if (i > 0) put(2 * i, 3 * in[i] + in[i - 1], round_left);
    if (i + 1 < n) put(2 * i + 1, 3 * in[i] + in[i + 1], round_right);
  }
  put(2 * n - 1, 4 * in[n - 1], round_right);
}

// Rows of a chroma plane at luma's size.
class JpegUpsampler {
 public:
  JpegUpsampler(const Plane& plane, int horizontal, int vertical)
      : plane_(plane),
        horizontal_(horizontal),
        vertical_(vertical),
        sums_(plane.width),
        row_(plane.width * horizontal) {}

  const uint8_t* row(int64_t y) {
    const uint8_t* near = plane_.row(y / vertical_);
    // libjpeg's filter needs three samples a row; narrower pictures are repeated.
    const bool fancy_h = horizontal_ == 2 && plane_.width > 2;
    if (fancy_h && vertical_ == 1) {
      double_row(near, plane_.width, 2, 1, 2, row_.data());
      return row_.data();
    }
    if (vertical_ == 2 && (fancy_h || horizontal_ == 1)) {
      const int64_t other = std::clamp<int64_t>(y / 2 + (y % 2 ? 1 : -1), 0, plane_.height - 1);
      const uint8_t* far = plane_.row(other);
      for (int64_t x = 0; x < plane_.width; ++x) sums_[x] = 3 * near[x] + far[x];
      if (fancy_h) {
        double_row(sums_.data(), plane_.width, 4, 8, 7, row_.data());
      } else {
        const int round = y % 2 ? 2 : 1;
        for (int64_t x = 0; x < plane_.width; ++x)
          row_[x] = static_cast<uint8_t>((sums_[x] + round) >> 2);
      }
      return row_.data();
    }
    if (horizontal_ == 1) return near;
    for (int64_t x = 0; x < plane_.width * horizontal_; ++x) row_[x] = near[x / horizontal_];
    return row_.data();
  }

 private:
  const Plane plane_;
  const int horizontal_, vertical_;
  std::vector<int16_t> sums_;
  std::vector<uint8_t> row_;
};

// A chroma value's share of each colour, in libjpeg's 16-bit fixed point.
struct JpegTables {
  std::array<int, 256> red, blue, green_cb, green_cr;
  JpegTables() {
    constexpr int kHalf = 1 << 15;
    for (int i = 0; i < 256; ++i) {
      const int c = i - 128;
      red[i] = (91881 * c + kHalf) >> 16;    // 1.402
      blue[i] = (116130 * c + kHalf) >> 16;  // 1.772
      green_cb[i] = -22554 * c + kHalf;      // 0.344136
      green_cr[i] = -46802 * c;              // 0.714136
    }
  }
};

// libwebp: RGB of one pixel, in its 14-bit fixed point.

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

std::vector<uint8_t> jpeg_to_rgb(const Yuv& yuv) {
  static const JpegTables tables;
  JpegUpsampler cb(yuv.cb, yuv.horizontal_factor, yuv.vertical_factor);
  JpegUpsampler cr(yuv.cr, yuv.horizontal_factor, yuv.vertical_factor);
  std::vector<uint8_t> rgb(yuv.y.height * yuv.y.width * 3);
  uint8_t* out = rgb.data();
  for (int64_t row = 0; row < yuv.y.height; ++row) {
    const uint8_t *y = yuv.y.row(row), *b = cb.row(row), *r = cr.row(row);
    for (int64_t x = 0; x < yuv.y.width; ++x, out += 3) {
      out[0] = clamp8(y[x] + tables.red[r[x]]);
      out[1] = clamp8(y[x] + ((tables.green_cb[b[x]] + tables.green_cr[r[x]]) >> 16));
      out[2] = clamp8(y[x] + tables.blue[b[x]]);
    }
  }
  return rgb;
}

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
