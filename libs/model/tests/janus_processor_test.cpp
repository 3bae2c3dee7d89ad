// SPDX-License-Identifier: Apache-2.0
// Pictures in and out of Janus's tokenizer.
#include <gmock/gmock.h>

#include <cmath>

#include "janus_fixture.h"
#include "refusal.h"
#include "veomni/base/error.h"
#include "veomni/media/image.h"

namespace veomni::model {
namespace {

media::Image stripes(int64_t height, int64_t width) {
  media::Image image{height, width, {}};
  for (int64_t i = 0; i < height * width * 3; ++i)
    image.rgb.push_back(static_cast<uint8_t>(i * 37 % 256));
  return image;
}

TEST(JanusProcessor, APictureOfItsOwnSizeComesBackExactly) {
  const auto processor = filled()->make_processor(json::object());
  EXPECT_EQ(processor->extension(), "png");
  const auto image = stripes(8, 8);
  const auto features = processor->process(media::encode_png(image), "picture");
  EXPECT_EQ(features.rows, 64);
  EXPECT_EQ(features.width, 3);
  EXPECT_EQ(features.grid, (Grid{3, 8, 8}));
  EXPECT_EQ(features.tokens, 16);
  EXPECT_EQ(features.token_grid, (Grid{16, 1, 1}));
  EXPECT_NEAR(features.values[4], (148 / 255.0 - 0.4578275) / 0.26130258, 1e-6);
  EXPECT_EQ(media::decode_image(processor->postprocess(features.values, features.grid), "").rgb,
            image.rgb);
}

// What transformers 5.9.0's JanusImageProcessorPil gives for the same pictures, 8 pixels a side: a few values, their sum and
// the sum of their magnitudes.
TEST(JanusProcessor, EqualsTransformers) {
  struct Expected {
    int64_t height, width;
    std::map<size_t, double> values;
    double sum, magnitudes;
  };
  const std::vector<Expected> pictures = {
      {5, 13, {{0, -0.011255}, {77, 0.581690}, {100, 0.634138}}, 11.385969006, 26.894176930},
      {13, 5, {{1, -0.011196}, {77, -0.001333}, {191, -0.001333}}, 11.419327936, 23.999484175},
      {11, 11, {{0, -0.960152}, {100, 0.258944}, {191, 0.197748}}, 33.344204823, 71.694916707}};
  const auto processor = filled()->make_processor({{"size", 8}, {"min_size", 2}});
  for (const auto& expected : pictures) {
    SCOPED_TRACE(testing::Message() << expected.height << " x " << expected.width);
    const auto file = media::encode_png(stripes(expected.height, expected.width));
    const auto values = processor->process(file, "picture").values;
    double sum = 0, magnitudes = 0;
    for (float value : values) {
      sum += value;
      magnitudes += std::abs(value);
    }
    for (const auto& [at, value] : expected.values) EXPECT_NEAR(values[at], value, 1e-6) << at;
    EXPECT_NEAR(sum, expected.sum, 1e-5);
    EXPECT_NEAR(magnitudes, expected.magnitudes, 1e-5);
  }
}

TEST(JanusProcessor, OtherShapesAreFittedAndPadded) {
  const auto processor =
      filled()->make_processor({{"min_size", 2}, {"background_color", {10, 20, 30}}});
  const auto features = processor->process(media::encode_png(stripes(6, 24)), "picture");
  EXPECT_EQ(features.grid, (Grid{3, 8, 8}));
  const auto square =
      media::decode_image(processor->postprocess(features.values, features.grid), "");
  const auto inner = media::resize_bicubic(stripes(6, 24), 2, 8);
  for (int64_t i = 0; i < 8 * 8 * 3; ++i) {
    const int64_t row = i / 24;
    const int expected = row < 3 || row > 4 ? static_cast<int>(10 * (i % 3 + 1))
                                            : inner.rgb[(row - 3) * 24 + i % 24];
    EXPECT_EQ(square.rgb[i], expected) << i;
  }
}

TEST(JanusProcessor, ValuesOutsideAreClamped) {
  const auto processor = filled()->make_processor(json::object());
  const std::vector<float> values(64 * 3, 1e9f), low(64 * 3, -1e9f);
  const auto white = media::decode_image(processor->postprocess(values, {3, 8, 8}), "");
  const auto black = media::decode_image(processor->postprocess(low, {3, 8, 8}), "");
  EXPECT_THAT(white.rgb, testing::Each(255));
  EXPECT_THAT(black.rgb, testing::Each(0));
}

TEST(JanusProcessor, KeysThatDoNotFitAreNamed) {
  const auto decoder = filled();
  const std::vector<std::pair<json, std::string>> refused = {
      {{{"size", 9}}, "size=9"},
      {{{"size", {{"height", 8}, {"width", 12}}}}, "must be equal"},
      {{{"min_size", 9}}, "min_size=9"},
      {{{"image_mean", {0.5}}}, "image_mean"},
      {{{"image_std", {0.5, 0, 0.5}}}, "image_std"},
      {{{"resample", 2}}, "resample=2"},
  };
  for (const auto& [keys, expected] : refused) {
    EXPECT_THAT(refusal([&] { decoder->make_processor(keys); }), testing::HasSubstr(expected))
        << keys;
  }
}

TEST(JanusProcessor, WithoutResizingOnlyPicturesOfItsSizeFit) {
  const auto fixed = filled()->make_processor({{"do_resize", false}});
  EXPECT_EQ(fixed->process(media::encode_png(stripes(6, 8)), "picture").rows, 64);
  EXPECT_THROW(fixed->process(media::encode_png(stripes(6, 9)), "picture"), media::BadMedia);
}

}  // namespace
}  // namespace veomni::model
