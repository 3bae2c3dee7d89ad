// SPDX-License-Identifier: Apache-2.0
// Values against transformers' image processor: tests/media.
#include "veomni/media/patches.h"

#include <gmock/gmock.h>

#include "veomni/media/processor.h"

namespace veomni::media {

void PrintTo(const Size& size, std::ostream* out) { *out << size.height << " x " << size.width; }

namespace {

TEST(SmartResize, RoundsToMultiplesHalvesToEven) {
  const auto fit = [](int64_t height, int64_t width) {
    return smart_resize({height, width}, 28, 1, 1 << 30);
  };
  EXPECT_EQ(fit(28, 56), (Size{28, 56}));
  EXPECT_EQ(fit(42, 70), (Size{56, 56}));  // 1.5 and 2.5 multiples
  EXPECT_EQ(fit(57, 83), (Size{56, 84}));
}

TEST(SmartResize, KeepsTheAreaInItsBounds) {
  // √(1000 · 2000 / 100 000) = 4.47…
  EXPECT_EQ(smart_resize({1000, 2000}, 28, 3136, 100000), (Size{196, 420}));
  // √(3136 / 100) = 5.6
  EXPECT_EQ(smart_resize({10, 10}, 28, 3136, 100000), (Size{56, 56}));
  EXPECT_EQ(smart_resize({1, 150}, 28, 3136, 100000), (Size{28, 700}));
  // A side never vanishes.
  EXPECT_EQ(smart_resize({20, 6000}, 28, 3136, 39200), (Size{28, 3416}));
}

// A picture whose pixels say where they are.
Image numbered(int64_t height, int64_t width) {
  Image image{height, width, {}};
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < 3; ++c)
        image.rgb.push_back(static_cast<uint8_t>(100 * c + y * width + x));
  return image;
}

PatchOptions plain(int64_t patch, int64_t frames, int64_t merge) {
  PatchOptions options;
  options.patch_size = patch;
  options.temporal_patch_size = frames;
  options.merge_size = merge;
  options.min_pixels = 1;
  options.mean = {0, 0, 0};
  options.std = {1.0 / 255, 1.0 / 255, 1.0 / 255};
  return options;
}

TEST(MakePatches, OrdersChannelsFramesRowsAndColumns) {
  // 4 x 8 pixels, patches of 2 x 2, a token of 2 x 2 patches: two tokens beside each other.
  const auto features = make_patches(numbered(4, 8), plain(2, 2, 2), "a.png");
  EXPECT_EQ(features.grid, (Grid{1, 2, 4}));
  EXPECT_EQ(features.token_grid, (Grid{1, 1, 2}));
  EXPECT_EQ(features.tokens, 2);
  EXPECT_EQ(features.rows, 8);
  EXPECT_EQ(features.width, 3 * 2 * 2 * 2);
  const auto row = [&](int64_t i) {
    const auto* begin = features.values.data() + i * features.width;
    return std::vector<float>(begin, begin + features.width);
  };
  const auto patch_at = [](float first) {
    std::vector<float> values;
    for (int c = 0; c < 3; ++c)
      for (int frame = 0; frame < 2; ++frame)
        for (const int offset : {0, 1, 8, 9})
          values.push_back(first + static_cast<float>(100 * c + offset));
    return values;
  };
  const float firsts[] = {0, 2, 16, 18, 4, 6, 20, 22};
  for (int64_t i = 0; i < 8; ++i)
    EXPECT_THAT(row(i), testing::Pointwise(testing::FloatNear(1e-4f), patch_at(firsts[i]))) << i;
}

TEST(MakePatches, NormalisesByChannel) {
  auto options = plain(2, 1, 1);
  options.mean = {0.5, 0, 1};
  options.std = {0.5, 1, 2};
  const auto features = make_patches({2, 2, std::vector<uint8_t>(12, 51)}, options, "a.png");
  EXPECT_THAT(features.values,
              testing::Pointwise(testing::FloatNear(1e-6f),
                                 std::vector<float>{-.6f, -.6f, -.6f, -.6f, .2f, .2f, .2f, .2f,
                                                    -.4f, -.4f, -.4f, -.4f}));
}

TEST(MakePatches, ResizesOnlyWhereAsked) {
  auto options = plain(2, 1, 2);
  EXPECT_EQ(make_patches(numbered(5, 7), options, "a.png").grid, (Grid{1, 2, 4}));
  options.resize = false;
  EXPECT_THROW(make_patches(numbered(5, 7), options, "a.png"), BadMedia);
  EXPECT_EQ(make_patches(numbered(4, 8), options, "a.png").grid, (Grid{1, 2, 4}));
}

TEST(MakePatches, RefusesARatio) {
  auto options = plain(1, 1, 1);
  options.max_ratio = 3;
  EXPECT_NO_THROW(make_patches(numbered(2, 6), options, "a.png"));
  EXPECT_THROW(make_patches(numbered(2, 7), options, "a.png"), BadMedia);
}

}  // namespace
}  // namespace veomni::media
