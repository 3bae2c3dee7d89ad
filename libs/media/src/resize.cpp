// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "veomni/base/error.h"
#include "veomni/media/image.h"

namespace veomni::media {

namespace {

// Pillow keeps weights as integers of 22 fractional bits: 32 less 8 of a pixel and 2 of head room.
constexpr int kFractionBits = 22;

// Keys' cubic convolution (IEEE TASSP 29(6), 1981) with a = −0.5.
double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// For each pixel of a resized axis, the input pixels it is made of and their weights.
struct Axis {
  int64_t taps = 0;  // weights a pixel, unused ones at its end
  std::vector<int64_t> begin, count;
  std::vector<int> weights;
};

Axis make_axis(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double stretch = std::max(scale, 1.0);  // antialias: the filter grows with the shrinking
  const double support = 2 * stretch;
  Axis axis;
  axis.taps = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  axis.weights.resize(out * axis.taps);
  std::vector<double> weights(axis.taps);
  for (int64_t x = 0; x < out; ++x) {
    const double center = (static_cast<double>(x) + 0.5) * scale;
    const int64_t begin = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t end = std::min(static_cast<int64_t>(center + support + 0.5), in);
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) {
      weights[i - begin] = bicubic((static_cast<double>(i) - center + 0.5) * (1 / stretch));
      sum += weights[i - begin];
    }
    for (int64_t i = 0; i < end - begin; ++i) {
      const double weight = sum != 0 ? weights[i] * (1 / sum) : weights[i];
      axis.weights[x * axis.taps + i] =
          static_cast<int>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kFractionBits));
    }
    axis.begin.push_back(begin);
    axis.count.push_back(end - begin);
  }
  return axis;
}

uint8_t round8(int sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

constexpr int kHalf = 1 << (kFractionBits - 1);

Image resize_width(const Image& image, int64_t width) {
  const Axis axis = make_axis(image.width, width);
  Image out{image.height, width, std::vector<uint8_t>(image.height * width * 3)};
  uint8_t* pixel = out.rgb.data();
  for (int64_t y = 0; y < image.height; ++y) {
    const uint8_t* row = image.rgb.data() + y * image.width * 3;
    for (int64_t x = 0; x < width; ++x, pixel += 3) {
      const int* weight = axis.weights.data() + x * axis.taps;
      const uint8_t* in = row + axis.begin[x] * 3;
      int r = kHalf, g = kHalf, b = kHalf;
      for (int64_t i = 0; i < axis.count[x]; ++i, in += 3) {
        r += in[0] * weight[i];
        g += in[1] * weight[i];
        b += in[2] * weight[i];
      }
      pixel[0] = round8(r);
      pixel[1] = round8(g);
      pixel[2] = round8(b);
    }
  }
  return out;
}

Image resize_height(const Image& image, int64_t height) {
  const Axis axis = make_axis(image.height, height);
  const int64_t row_bytes = image.width * 3;
  Image out{height, image.width, std::vector<uint8_t>(height * row_bytes)};
  std::vector<int> sums(row_bytes);
  for (int64_t y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int64_t i = 0; i < axis.count[y]; ++i) {
      const int weight = axis.weights[y * axis.taps + i];
      const uint8_t* in = image.rgb.data() + (axis.begin[y] + i) * row_bytes;
      for (int64_t x = 0; x < row_bytes; ++x) sums[x] += in[x] * weight;
    }
    std::transform(sums.begin(), sums.end(), out.rgb.data() + y * row_bytes, round8);
  }
  return out;
}

// Each pass rounds to 8 bits, so their order shows. This is Pillow 13's (found by comparing its results with both orders');
// before 13, rows were always resized first.
bool vertical_first(const Image& image, int64_t height, int64_t width) {
  return height < image.height && image.height - height > 2 * (image.width - width);
}

}  // namespace

Image resize_bicubic(const Image& image, int64_t height, int64_t width) {
  VEOMNI_CHECK(image.height > 0 && image.width > 0 && height > 0 && width > 0,
               "resize_bicubic: ", image.height, " x ", image.width, " to ", height, " x ", width,
               " has an empty side");
  VEOMNI_CHECK(image.rgb.size() == image.height * image.width * 3,
               "resize_bicubic: ", image.rgb.size(), " bytes are not ", image.height, " x ",
               image.width, " x 3");
  if (height == image.height && width == image.width) return image;
  if (width == image.width) return resize_height(image, height);
  if (height == image.height) return resize_width(image, width);
  return vertical_first(image, height, width) ? resize_width(resize_height(image, height), width)
                                              : resize_height(resize_width(image, width), height);
}

}  // namespace veomni::media
