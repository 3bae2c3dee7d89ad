// SPDX-License-Identifier: Apache-2.0
/// Pictures as rows of patches, the way Qwen2-VL reads them (Wang et al., arXiv 2409.12191, section 2.1).
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "veomni/media/features.h"
#include "veomni/media/image.h"

namespace veomni::media {

struct PatchOptions {
  int64_t patch_size = 14;
  int64_t temporal_patch_size = 2;  ///< a picture stands still for so many frames
  int64_t merge_size = 2;           ///< patches a side that become one token
  int64_t min_pixels = 56 * 56;
  int64_t max_pixels = 28 * 28 * 1280;
  double max_ratio = 200;
  bool resize = true;
  std::array<double, 3> mean = {0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> std = {0.26862954, 0.26130258, 0.27577711};
};

struct Size {
  int64_t height = 0, width = 0;
  bool operator==(const Size&) const = default;
};

/// Both sides become multiples of `factor`, their product lies in [min_pixels, max_pixels], the ratio stays about the
/// same: the rule of Hugging Face's Qwen2VLImageProcessor (halves are rounded to even).
Size smart_resize(Size size, int64_t factor, int64_t min_pixels, int64_t max_pixels);

/// Resized, divided by 255, normalised by channel and cut into patches.
///
/// rows = t·h·w patches, the merge_size² that become a token side by side; width = 3 · temporal_patch_size · patch_size²
/// in the order channel, frame, row, column; grid = {t, h, w}; tokens = rows / merge_size²; token_grid = {t, h / merge_size,
/// w / merge_size}.
/// @throws BadMedia for a ratio above max_ratio, or (resize off) sides that are no multiples
Features make_patches(const Image& image, const PatchOptions& options, const std::string& where);

}  // namespace veomni::media
