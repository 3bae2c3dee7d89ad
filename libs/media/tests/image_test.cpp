// SPDX-License-Identifier: Apache-2.0
// Pixels against Pillow's: tests/media.
#include "veomni/media/image.h"

#include <gmock/gmock.h>

#include <cstring>
#include <random>

#include "tiny_pictures.h"
#include "veomni/media/processor.h"

namespace veomni::media {
namespace {

using Bytes = std::vector<std::byte>;
using testing::HasSubstr;

template <size_t N> Bytes bytes_of(const std::array<uint8_t, N>& file) {
  const auto* begin = reinterpret_cast<const std::byte*>(file.data());
  return {begin, begin + N};
}

struct TinyFile {
  const char* name;
  Bytes bytes;
  size_t picture_bytes;  // cut before them, the file is refused
};

std::vector<TinyFile> tiny_files() {
  std::vector<TinyFile> files = {{"jpeg", bytes_of(kJpeg), 0},
                                 {"progressive jpeg", bytes_of(kProgressiveJpeg), 0},
                                 {"png", bytes_of(kPng), 0},
                                 {"palette png", bytes_of(kPalettePng), 0},
                                 {"gif", bytes_of(kGif), 0},
                                 {"webp", bytes_of(kWebp), 0},
                                 {"lossless webp", bytes_of(kLosslessWebp), 0}};
  for (auto& file : files) {
    const bool is_gif =
        std::strcmp(file.name, "gif") == 0;  // its trailer follows the first picture
    file.picture_bytes = file.bytes.size() - (is_gif ? 1 : 0);
  }
  return files;
}

// BadMedia's text, or "" if the file is read; its picture must be whole then. Anything else that is thrown fails the test.
std::string refusal(std::span<const std::byte> file, const ImageLimits& limits = {}) {
  try {
    const Image image = decode_image(file, "a.file", limits);
    EXPECT_GT(image.height, 0);
    EXPECT_GT(image.width, 0);
    EXPECT_EQ(image.rgb.size(), image.height * image.width * 3);
    return "";
  } catch (const BadMedia& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("a.file: "));
    return error.what();
  }
}

Image ramp(int64_t height, int64_t width) {
  Image image{height, width, std::vector<uint8_t>(height * width * 3)};
  for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<uint8_t>(i * 37 + i / 7);
  return image;
}

TEST(DecodeImage, EveryKindHasItsSizeAndAboutItsColours) {
  for (const auto& file : tiny_files()) {
    SCOPED_TRACE(file.name);
    const Image image = decode_image(file.bytes, file.name);
    ASSERT_EQ(image.height, 6);
    ASSERT_EQ(image.width, 9);
    // Red grows along a row, green along a column.
    EXPECT_GT(image.rgb[8 * 3], image.rgb[0] + 100);
    EXPECT_GT(image.rgb[(5 * 9) * 3 + 1], image.rgb[1] + 100);
  }
}

TEST(DecodeImage, FilesCutAnywhereAreRefused) {
  for (const auto& file : tiny_files()) {
    for (size_t length = 0; length < file.picture_bytes; ++length)
      EXPECT_NE(refusal(std::span(file.bytes).first(length)), "") << file.name << " to " << length;
  }
}

TEST(DecodeImage, ChangedBytesGiveAPictureOrARefusal) {
  const ImageLimits small{.max_pixels = 1 << 16};
  for (const auto& file : tiny_files()) {
    for (size_t i = 0; i < file.bytes.size(); ++i) {
      for (const int flip : {0x01, 0x10, 0x80, 0xff}) {
        Bytes changed = file.bytes;
        changed[i] ^= static_cast<std::byte>(flip);
        refusal(changed, small);
      }
    }
  }
}

TEST(DecodeImage, RandomDamageGivesAPictureOrARefusal) {
  const ImageLimits small{.max_pixels = 1 << 16};
  std::mt19937 rng(1);
  for (const auto& file : tiny_files()) {
    for (int i = 0; i < 500; ++i) {
      Bytes changed = file.bytes;
      const size_t begin = rng() % changed.size(), count = 1 + rng() % 8;
      for (size_t k = begin; k < std::min(begin + count, changed.size()); ++k)
        changed[k] = static_cast<std::byte>(rng());
      if (i % 3 == 0) changed.insert(changed.begin() + begin, count, std::byte{0});
      if (i % 3 == 1) changed.erase(changed.begin() + begin);
      refusal(changed, small);
    }
  }
}

// The checksum of every block protects all of a PNG but its first eight bytes, which make it one.
TEST(DecodeImage, NoChangedByteOfAPngIsAccepted) {
  const Bytes file = bytes_of(kPng);
  for (size_t i = 0; i < file.size(); ++i) {
    Bytes changed = file;
    changed[i] ^= std::byte{0x04};
    EXPECT_NE(refusal(changed), "") << "byte " << i;
  }
}

TEST(DecodeImage, NamesWhatIsNoPicture) {
  const auto refuse = [](std::string_view text) { return refusal(std::as_bytes(std::span(text))); };
  EXPECT_THAT(refuse(""), HasSubstr("it is empty"));
  EXPECT_THAT(refuse("plain text"), HasSubstr("it begins with 70 6c 61 69 6e 20 74 65"));
  EXPECT_THAT(refuse("fLaC and more"), HasSubstr("it is a FLAC"));
  EXPECT_THAT(refuse("\x1a\x45\xdf\xa3 and more"), HasSubstr("Matroska or WebM"));
  EXPECT_THAT(refuse("version https://git-lfs.github.com/spec/v1"), HasSubstr("Git LFS pointer"));
}

TEST(DecodeImage, LimitsAreOnTheHeaderAndInclusive) {
  for (const auto& file : tiny_files()) {
    SCOPED_TRACE(file.name);
    EXPECT_EQ(refusal(file.bytes, {.max_pixels = 54, .max_ratio = 1.5}), "");
    EXPECT_THAT(refusal(file.bytes, {.max_pixels = 53}), HasSubstr("9 x 6"));
    EXPECT_THAT(refusal(file.bytes, {.max_ratio = 1.49}), HasSubstr("1.5"));
  }
}

TEST(EncodePng, IsReadBackToTheBit) {
  for (const auto& [height, width] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1, 9}, {9, 1}, {6, 9}, {65, 130}}) {
    const Image image = ramp(height, width);
    const Bytes file = encode_png(image);
    EXPECT_EQ(decode_image(file, "a").rgb, image.rgb) << height << " x " << width;
    EXPECT_EQ(encode_png(image), file);
  }
}

TEST(EncodePng, RefusesNoPicture) {
  EXPECT_THROW(encode_png(Image{}), Error);
  EXPECT_THROW(encode_png(Image{2, 2, std::vector<uint8_t>(11)}), Error);
  EXPECT_THROW(encode_png(Image{1, 1 << 16, std::vector<uint8_t>(3 << 16)}), Error);
}

}  // namespace
}  // namespace veomni::media
