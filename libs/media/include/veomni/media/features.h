// SPDX-License-Identifier: Apache-2.0
/// What a model reads of one picture or clip.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace veomni::media {

/// Three extents of an item. What they count is the model's own: patches {t, h, w} of a picture, {frames, 1, 1} of a
/// clip, {channels, height, width} of a picture to be drawn.
using Grid = std::array<int64_t, 3>;

/// One item's rows and facts. Made by a Processor, read by the encoder or decoder it belongs to.
struct Features {
  std::vector<float> values;  ///< [rows, width], row-major
  int64_t rows = 0;
  int64_t width = 0;
  Grid grid{};         ///< the item's extents, as its model wants them
  int64_t tokens = 0;  ///< tokens that stand for it in a sequence
  /// How these tokens lie for M-RoPE: t·h·w == tokens. A clip is {tokens, 1, 1}.
  Grid token_grid{};
};

}  // namespace veomni::media
