// SPDX-License-Identifier: Apache-2.0
// Pixels against Pillow's: tests/media.
#include <gtest/gtest.h>

#include "veomni/base/error.h"
#include "veomni/media/image.h"

namespace veomni::media {
namespace {

Image filled(int64_t height, int64_t width, uint8_t value) {
  return {height, width, std::vector<uint8_t>(height * width * 3, value)};
}

TEST(ResizeBicubic, OneColourStaysItself) {
  for (const uint8_t value : {0, 1, 127, 254, 255}) {
    const Image out = resize_bicubic(filled(13, 29, value), 31, 7);
    EXPECT_EQ(out.height, 31);
    EXPECT_EQ(out.width, 7);
    EXPECT_EQ(out.rgb, filled(31, 7, value).rgb);
  }
}

TEST(ResizeBicubic, ItsOwnSizeIsACopy) {
  Image image = filled(3, 5, 0);
  for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<uint8_t>(5 * i);
  EXPECT_EQ(resize_bicubic(image, 3, 5).rgb, image.rgb);
}

// Twice as wide: weights of Keys' kernel (a = −0.5) at distances 0.25, 0.75, 1.25 and 1.75.
TEST(ResizeBicubic, DoublesByHand) {
  Image image = filled(1, 6, 0);
  for (int c = 0; c < 3; ++c) image.rgb[2 * 3 + c] = 128;
  const Image out = resize_bicubic(image, 1, 12);
  const std::vector<int> expected = {0, -3, -9, 29, 111, 111, 29, -9, -3, 0, 0, 0};
  for (int x = 0; x < 12; ++x) EXPECT_EQ(out.rgb[3 * x], std::max(expected[x], 0)) << "at " << x;
}

TEST(ResizeBicubic, RefusesEmptySides) {
  EXPECT_THROW(resize_bicubic(filled(2, 2, 0), 0, 2), Error);
  EXPECT_THROW(resize_bicubic(filled(0, 2, 0), 2, 2), Error);
  EXPECT_THROW(resize_bicubic(Image{2, 2, {}}, 2, 2), Error);
}

}  // namespace
}  // namespace veomni::media
