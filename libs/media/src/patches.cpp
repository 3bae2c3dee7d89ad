// SPDX-License-Identifier: Apache-2.0
#include "veomni/media/patches.h"

#include <algorithm>
#include <cmath>

#include "veomni/media/processor.h"

namespace veomni::media {

namespace {

int64_t nearest_multiple(int64_t extent, int64_t factor) {
  return static_cast<int64_t>(
             std::nearbyint(static_cast<double>(extent) / static_cast<double>(factor))) *
         factor;
}

}  // namespace

Size smart_resize(Size size, int64_t factor, int64_t min_pixels, int64_t max_pixels) {
  const double height = static_cast<double>(size.height), width = static_cast<double>(size.width);
  const double step = static_cast<double>(factor);
  Size out{nearest_multiple(size.height, factor), nearest_multiple(size.width, factor)};
  if (out.height * out.width > max_pixels) {
    const double beta = std::sqrt(height * width / static_cast<double>(max_pixels));
    const auto fit = [&](double extent) {
      return std::max(factor, static_cast<int64_t>(std::floor(extent / beta / step)) * factor);
    };
    out = {fit(height), fit(width)};
  } else if (out.height * out.width < min_pixels) {
    const double beta = std::sqrt(static_cast<double>(min_pixels) / (height * width));
    const auto fit = [&](double extent) {
      return static_cast<int64_t>(std::ceil(extent * beta / step)) * factor;
    };
    out = {fit(height), fit(width)};
  }
  return out;
}

namespace {

// The picture at the size its patches need.
Image fitted(const Image& image, const PatchOptions& o, const std::string& where) {
  const int64_t factor = o.patch_size * o.merge_size;
  const double longer = static_cast<double>(std::max(image.height, image.width));
  const double ratio = longer / static_cast<double>(std::min(image.height, image.width));
  if (ratio > o.max_ratio) {
    throw BadMedia(detail::concat(where, ": ", image.height, " x ", image.width,
                                  " pixels have a ratio of ", ratio, ", the limit is ",
                                  o.max_ratio));
  }
  if (!o.resize) {
    if (image.height % factor != 0 || image.width % factor != 0) {
      throw BadMedia(detail::concat(where, ": ", image.height, " x ", image.width,
                                    " pixels are no multiples of ", factor,
                                    " and do_resize is off"));
    }
    return image;
  }
  const Size size = smart_resize({image.height, image.width}, factor, o.min_pixels, o.max_pixels);
  if (size == Size{image.height, image.width}) return image;
  return resize_bicubic(image, size.height, size.width);
}

}  // namespace

Features make_patches(const Image& original, const PatchOptions& o, const std::string& where) {
  const Image image = fitted(original, o, where);
  const int64_t p = o.patch_size, m = o.merge_size;
  const int64_t grid_h = image.height / p, grid_w = image.width / p;
  Features out;
  out.grid = {1, grid_h, grid_w};
  out.token_grid = {1, grid_h / m, grid_w / m};
  out.tokens = out.token_grid[1] * out.token_grid[2];
  out.rows = grid_h * grid_w;
  out.width = 3 * o.temporal_patch_size * p * p;
  out.values.resize(out.rows * out.width);
  std::array<float, 3> scale, shift;
  for (int c = 0; c < 3; ++c) {
    scale[c] = static_cast<float>(1.0 / (255.0 * o.std[c]));
    shift[c] = static_cast<float>(-o.mean[c] / o.std[c]);
  }
  float* value = out.values.data();
  // Token by token, and inside each its merge_size² patches.
  for (int64_t token = 0; token < out.tokens; ++token) {
    const int64_t token_y = token / out.token_grid[2], token_x = token % out.token_grid[2];
    for (int64_t patch = 0; patch < m * m; ++patch) {
      const int64_t top = (token_y * m + patch / m) * p, left = (token_x * m + patch % m) * p;
      for (int c = 0; c < 3; ++c) {
        for (int64_t frame = 0; frame < o.temporal_patch_size; ++frame) {
          for (int64_t y = top; y < top + p; ++y) {
            const uint8_t* pixel = image.rgb.data() + (y * image.width + left) * 3 + c;
            for (int64_t x = 0; x < p; ++x, pixel += 3)
              *value++ = static_cast<float>(*pixel) * scale[c] + shift[c];
          }
        }
      }
    }
  }
  return out;
}

}  // namespace veomni::media
