// SPDX-License-Identifier: Apache-2.0
#include "processor.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "config.h"
#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"
#include "veomni/media/image.h"

namespace veomni::model {

namespace {

using media::Image;

const char* const kWhere = "preprocessor_config.json";
constexpr int64_t kLargestSide = 8192;
constexpr int64_t kBicubic = 3;  // Pillow's number

struct Options {
  int64_t size = 0, factor = 1, min_size = 14;
  bool resize = true, pad = true, rescale = true, normalize = true;
  double rescale_factor = 1.0 / 255;
  std::array<double, 3> mean = {0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> std = {0.26862954, 0.26130258, 0.27577711};
  std::array<double, 3> background{};
};

std::array<double, 3> read_channels(const nlohmann::json& config, const char* key,
                                    std::array<double, 3> standard) {
  if (!io::has_value(config, key)) return standard;
  const auto& values = io::require_array(config, key, kWhere);
  const bool numbers = std::all_of(values.begin(), values.end(),
                                   [](const nlohmann::json& value) { return value.is_number(); });
  VEOMNI_CHECK_CONFIG(values.size() == 3 && numbers, kWhere, ": ", key,
                      " must hold 3 numbers, got ", io::brief_json(values));
  return {values[0].get<double>(), values[1].get<double>(), values[2].get<double>()};
}

int64_t read_size(const nlohmann::json& config, int64_t standard) {
  if (!io::has_value(config, "size")) return standard;
  const auto& size = config.at("size");
  if (size.is_number()) return io::require_int(config, "size", kWhere);
  const int64_t height = io::require_int(size, "height", kWhere);
  const int64_t width = io::require_int(size, "width", kWhere);
  VEOMNI_CHECK_CONFIG(height == width, kWhere, ": size: height=", height, " and width=", width,
                      " must be equal: pictures are made square");
  return height;
}

Options read_options(const nlohmann::json& config, int64_t size, int64_t factor) {
  Options o;
  o.size = read_size(config, size);
  o.factor = factor;
  // A small model's pictures are smaller than the floor that transformers sets where none is given.
  o.min_size = io::get_or(config, "min_size", std::min(o.min_size, o.size), kWhere);
  o.resize = io::get_or(config, "do_resize", true, kWhere);
  o.pad = io::get_or(config, "do_pad", true, kWhere);
  o.rescale = io::get_or(config, "do_rescale", true, kWhere);
  o.rescale_factor = io::get_or(config, "rescale_factor", o.rescale_factor, kWhere);
  o.normalize = io::get_or(config, "do_normalize", true, kWhere);
  o.mean = read_channels(config, "image_mean", o.mean);
  o.std = read_channels(config, "image_std", o.std);
  for (size_t c = 0; c < 3; ++c) o.background[c] = std::trunc(o.mean[c] * 255);
  o.background = read_channels(config, "background_color", o.background);
  VEOMNI_CHECK_CONFIG(o.size > 0 && o.size <= kLargestSide && o.size % factor == 0, kWhere,
                      ": size=", o.size, " must be a multiple of ", factor,
                      ", the pixels a side of one code, and at most ", kLargestSide);
  VEOMNI_CHECK_CONFIG(o.min_size > 0 && o.min_size <= o.size, kWhere, ": min_size=", o.min_size,
                      " must lie between 1 and size=", o.size);
  const int64_t resample = io::get_or(config, "resample", kBicubic, kWhere);
  VEOMNI_CHECK_CONFIG(resample == kBicubic, kWhere, ": resample=", resample,
                      " is not supported by janus_vq16 (supported: ", kBicubic, ", bicubic)");
  VEOMNI_CHECK_CONFIG(o.rescale_factor > 0, kWhere, ": rescale_factor must be more than 0, got ",
                      o.rescale_factor);
  for (double std : o.std)
    VEOMNI_CHECK_CONFIG(std > 0, kWhere, ": image_std must be more than 0, got ", std);
  for (double value : o.background)
    VEOMNI_CHECK_CONFIG(value >= 0 && value <= 255, kWhere,
                        ": background_color must lie between 0 and 255, got ", value);
  return o;
}

// The longer side becomes `size`. Halves are rounded to even, as Python's round() does.
Image fit(const Image& image, const Options& o) {
  const double by =
      static_cast<double>(o.size) / static_cast<double>(std::max(image.height, image.width));
  const auto side = [&](int64_t pixels) {
    return std::max(static_cast<int64_t>(std::nearbyint(static_cast<double>(pixels) * by)),
                    o.min_size);
  };
  return media::resize_bicubic(image, side(image.height), side(image.width));
}

Image pad_to_square(const Image& image, const std::array<double, 3>& background) {
  const int64_t side = std::max(image.height, image.width);
  if (image.height == image.width) return image;
  Image square{side, side, std::vector<uint8_t>(side * side * 3)};
  for (size_t i = 0; i < square.rgb.size(); ++i)
    square.rgb[i] = static_cast<uint8_t>(background[i % 3]);
  const int64_t top = (side - image.height) / 2, left = (side - image.width) / 2;
  for (int64_t y = 0; y < image.height; ++y)
    std::copy_n(image.rgb.begin() + y * image.width * 3, image.width * 3,
                square.rgb.begin() + ((top + y) * side + left) * 3);
  return square;
}

class JanusProcessor final : public media::Processor {
 public:
  explicit JanusProcessor(const Options& options) : options_(options) {
    for (size_t c = 0; c < 3; ++c) {
      const double unit = options_.rescale ? options_.rescale_factor : 1;
      scale_[c] = options_.normalize ? unit / options_.std[c] : unit;
      shift_[c] = options_.normalize ? -options_.mean[c] / options_.std[c] : 0;
    }
  }

  media::Features process(std::span<const std::byte> file,
                          const std::string& where) const override {
    Image image = media::decode_image(file, where);
    if (options_.resize) image = fit(image, options_);
    if (options_.pad) image = pad_to_square(image, options_.background);
    const int64_t size = options_.size, codes = size / options_.factor;
    if (image.height != size || image.width != size)
      throw media::BadMedia(where + ": " + std::to_string(image.width) + " x " +
                            std::to_string(image.height) + " pixels, where every picture has " +
                            std::to_string(size) + " x " + std::to_string(size) +
                            "; let do_resize and do_pad be true");
    media::Features features;
    features.rows = size * size;
    features.width = kJanusChannels;
    features.grid = {kJanusChannels, size, size};
    features.tokens = codes * codes;
    features.token_grid = {features.tokens, 1, 1};
    features.values.resize(image.rgb.size());
    for (size_t i = 0; i < image.rgb.size(); ++i)
      features.values[i] = static_cast<float>(image.rgb[i] * scale_[i % 3] + shift_[i % 3]);
    return features;
  }

  std::vector<std::byte> postprocess(std::span<const float> values,
                                     const media::Grid& grid) const override {
    VEOMNI_CHECK(grid[0] == kJanusChannels &&
                     static_cast<int64_t>(values.size()) == grid[0] * grid[1] * grid[2],
                 values.size(), " values for a picture of ", grid[0], " channels, ", grid[1], " x ",
                 grid[2], " pixels");
    Image image{grid[1], grid[2], std::vector<uint8_t>(values.size())};
    for (size_t i = 0; i < values.size(); ++i) {
      const double value = (values[i] - shift_[i % 3]) / scale_[i % 3];
      // A NaN becomes black.
      image.rgb[i] = value > 0 ? static_cast<uint8_t>(std::lround(std::min(value, 255.0))) : 0;
    }
    return media::encode_png(image);
  }

  std::string extension() const override { return "png"; }

 private:
  Options options_;
  std::array<double, 3> scale_{}, shift_{};  // value = 8 bits · scale + shift
};

}  // namespace

std::unique_ptr<media::Processor> make_janus_processor(const nlohmann::json& config, int64_t size,
                                                       int64_t factor) {
  return std::make_unique<JanusProcessor>(read_options(config, size, factor));
}

}  // namespace veomni::model
