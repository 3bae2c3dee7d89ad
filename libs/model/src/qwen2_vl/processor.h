// SPDX-License-Identifier: Apache-2.0
/// Pictures for Qwen2-VL's vision tower: what transformers' Qwen2VLImageProcessor makes of them.
#pragma once

#include <array>
#include <memory>
#include <nlohmann/json.hpp>

#include "veomni/media/image.h"
#include "veomni/media/processor.h"

namespace veomni::model {

/// Defaults are the image processor's own.
struct Qwen2VlProcessorOptions {
  int64_t patch_size = 14;
  int64_t temporal_patch_size = 2;
  int64_t merge_size = 2;
  int64_t min_pixels = 56 * 56;         ///< of the resized picture
  int64_t max_pixels = 28 * 28 * 1280;  ///< of the resized picture
  double max_ratio = 200;               ///< longer side over the shorter
  double rescale_factor = 1.0 / 255;    ///< pixel -> [0, 1]; 1: pixels stay as they are
  std::array<double, 3> image_mean{0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> image_std{0.26862954, 0.26130258, 0.27577711};

  /// Reads preprocessor_config.json's keys, absent ones keep the defaults: min_pixels and max_pixels, or
  /// size.shortest_edge and size.longest_edge; max_ratio; image_mean, image_std, rescale_factor, do_rescale,
  /// do_normalize. Keys of other processors in the file are left alone.
  /// @throws ConfigError for values out of range, for sizes that are not the model's, for `do_resize: false` and for a
  /// `resample` other than bicubic (3)
  static Qwen2VlProcessorOptions from_json(const nlohmann::json& preprocessor, int64_t patch_size,
                                           int64_t temporal_patch_size, int64_t merge_size);
};

/// The size a picture is resized to: multiples of patch · merge, near its own ratio, min_pixels <= area <= max_pixels
/// where the multiples allow it. Halves round to even.
/// @return {height, width}
std::array<int64_t, 2> smart_resize(int64_t height, int64_t width,
                                    const Qwen2VlProcessorOptions& options);

/// A picture's bytes -> Features:
///   values      [t·h·w, 3·temporal·patch·patch], one picture repeated over `temporal`; the merge² patches of a token
///               are one after another, tokens row by row
///   grid        {1, h, w} in patches
///   tokens      h·w / merge²; token_grid {1, h / merge, w / merge}
class Qwen2VlProcessor final : public media::Processor {
 public:
  explicit Qwen2VlProcessor(const Qwen2VlProcessorOptions& options) : options_(options) {}
  media::Features process(std::span<const std::byte> file, const std::string& where) const override;

 private:
  Qwen2VlProcessorOptions options_;
};

/// @throws ConfigError, see Qwen2VlProcessorOptions::from_json
std::unique_ptr<media::Processor> make_qwen2_vl_processor(const nlohmann::json& preprocessor,
                                                          int64_t patch_size,
                                                          int64_t temporal_patch_size,
                                                          int64_t merge_size);

}  // namespace veomni::model
