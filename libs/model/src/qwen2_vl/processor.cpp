// SPDX-License-Identifier: Apache-2.0
#include "processor.h"

#include <cmath>

#include "veomni/base/error.h"
#include "veomni/io/json_fields.h"
#include "veomni/media/image.h"
#include "veomni/media/patches.h"

namespace veomni::model {

namespace {

const char* const kWhere = "preprocessor_config.json";

std::array<double, 3> read_channels(const nlohmann::json& config, const char* key,
                                    std::array<double, 3> standard) {
  if (!io::has_value(config, key)) return standard;
  const auto& values = io::require_array(config, key, kWhere);
  VEOMNI_CHECK_CONFIG(values.size() == 3, kWhere, ": ", key, " must hold 3 numbers");
  std::array<double, 3> out;
  for (size_t c = 0; c < 3; ++c) {
    VEOMNI_CHECK_CONFIG(values[c].is_number(), kWhere, ": ", key, " must hold 3 numbers");
    out[c] = values[c].get<double>();
  }
  return out;
}

// What the file may say only in one way: a model that was trained otherwise would read other numbers.
void require_same(const nlohmann::json& config, const char* key, int64_t model) {
  const int64_t value = io::get_or(config, key, model, kWhere);
  VEOMNI_CHECK_CONFIG(value == model, kWhere, ": ", key, "=", value, ", but the model has ", model);
}

void require_on(const nlohmann::json& config, const char* key) {
  VEOMNI_CHECK_CONFIG(io::get_or(config, key, true, kWhere), kWhere, ": ", key,
                      "=false is not supported by qwen2_vl_vision");
}

class Qwen2VlProcessor final : public media::Processor {
 public:
  explicit Qwen2VlProcessor(media::PatchOptions options) : options_(options) {}
  media::Features process(std::span<const std::byte> file,
                          const std::string& where) const override {
    const media::ImageLimits limits{.max_ratio = options_.max_ratio};
    return media::make_patches(media::decode_image(file, where, limits), options_, where);
  }

 private:
  media::PatchOptions options_;
};

}  // namespace

std::unique_ptr<media::Processor> make_qwen2_vl_processor(const nlohmann::json& config,
                                                          int64_t patch_size,
                                                          int64_t temporal_patch_size,
                                                          int64_t merge_size) {
  require_same(config, "patch_size", patch_size);
  require_same(config, "temporal_patch_size", temporal_patch_size);
  require_same(config, "merge_size", merge_size);
  require_on(config, "do_rescale");
  require_on(config, "do_normalize");
  constexpr int64_t kBicubic = 3;  // Pillow's number
  VEOMNI_CHECK_CONFIG(io::get_or(config, "resample", kBicubic, kWhere) == kBicubic, kWhere,
                      ": only resample=3 (bicubic) is supported by qwen2_vl_vision");
  const double scale = io::get_or(config, "rescale_factor", 1.0 / 255, kWhere);
  VEOMNI_CHECK_CONFIG(std::abs(scale * 255 - 1) < 1e-6, kWhere, ": rescale_factor=", scale,
                      " is not supported by qwen2_vl_vision (supported: 1/255)");
  media::PatchOptions o;
  o.patch_size = patch_size;
  o.temporal_patch_size = temporal_patch_size;
  o.merge_size = merge_size;
  const auto size = io::has_value(config, "size") ? io::require_object(config, "size", kWhere)
                                                  : nlohmann::json::object();
  o.min_pixels = io::get_or(size, "shortest_edge", o.min_pixels, kWhere);
  o.max_pixels = io::get_or(size, "longest_edge", o.max_pixels, kWhere);
  // The older keys win, as they do there.
  o.min_pixels = io::get_or(config, "min_pixels", o.min_pixels, kWhere);
  o.max_pixels = io::get_or(config, "max_pixels", o.max_pixels, kWhere);
  VEOMNI_CHECK_CONFIG(o.min_pixels > 0 && o.min_pixels <= o.max_pixels, kWhere,
                      ": min_pixels=", o.min_pixels, " and max_pixels=", o.max_pixels,
                      " must be in order and more than 0");
  o.resize = io::get_or(config, "do_resize", true, kWhere);
  o.mean = read_channels(config, "image_mean", o.mean);
  o.std = read_channels(config, "image_std", o.std);
  for (double std : o.std)
    VEOMNI_CHECK_CONFIG(std > 0, kWhere, ": image_std must be more than 0, got ", std);
  return std::make_unique<Qwen2VlProcessor>(o);
}

}  // namespace veomni::model
