// SPDX-License-Identifier: Apache-2.0
// Samples against libsndfile's: tests/media.
#include "veomni/media/audio.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <random>

#include "tiny_sounds.h"
#include "veomni/media/processor.h"

namespace veomni::media {
namespace {

using Bytes = std::vector<std::byte>;
using testing::AllOf;
using testing::HasSubstr;

template <size_t N> Bytes bytes_of(const std::array<uint8_t, N>& file) {
  const auto* begin = reinterpret_cast<const std::byte*>(file.data());
  return {begin, begin + N};
}

Audio tone(int64_t sample_rate, int64_t samples, double hz = 500) {
  Audio audio{sample_rate, {}};
  for (int64_t i = 0; i < samples; ++i) {
    const double turns = hz * static_cast<double>(i) / static_cast<double>(sample_rate);
    audio.samples.push_back(static_cast<float>(0.5 * std::sin(2 * std::numbers::pi * turns)));
  }
  return audio;
}

// BadMedia's text, or "" if the file is read, all its samples being finite then. Anything else that is thrown fails the
// test.
std::string refusal(std::span<const std::byte> file, const AudioLimits& limits = {}) {
  try {
    const auto audio = decode_audio(file, "a.file", 16000, limits);
    EXPECT_EQ(audio.sample_rate, 16000);
    EXPECT_FALSE(audio.samples.empty());
    EXPECT_THAT(audio.samples,
                testing::Each(testing::Truly([](float x) { return std::isfinite(x); })));
    return "";
  } catch (const BadMedia& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("a.file: "));
    return error.what();
  }
}

void put(Bytes& file, size_t at, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) file[at + i] = static_cast<std::byte>(value >> 8 * i);
}

TEST(EncodeWav, ComesBackToTheBit) {
  Audio audio{22050, {}};
  for (int i = -32768; i < 32768; i += 7) audio.samples.push_back(static_cast<float>(i) / 32768);
  const auto back = decode_audio(encode_wav(audio), "a.wav", 22050);
  EXPECT_EQ(back.sample_rate, 22050);
  EXPECT_EQ(back.samples, audio.samples);
}

TEST(EncodeWav, ClampsWhatIsTooLoudAndRefusesWhatIsNoNumber) {
  const auto back = decode_audio(encode_wav({8000, {2.0f, -2.0f, 1.0f}}), "a.wav", 8000);
  EXPECT_THAT(back.samples, testing::ElementsAre(32767 / 32768.f, -1.f, 32767 / 32768.f));
  EXPECT_THROW(encode_wav({8000, {std::numeric_limits<float>::quiet_NaN()}}), Error);
  EXPECT_THROW(encode_wav({0, {0.f}}), Error);
}

TEST(DecodeAudio, ReadsEveryCodedKind) {
  const auto want = tone(8000, 400).samples;
  const std::pair<Bytes, float> files[] = {{bytes_of(kFlac), 1e-4f},
                                           {bytes_of(kMp3), 0.05f},
                                           {bytes_of(kVorbis), 0.1f},
                                           {bytes_of(kOpus), 0.3f}};
  for (const auto& [file, loss] : files) {
    const auto audio = decode_audio(file, "a.file", 8000);
    ASSERT_EQ(audio.samples.size(), want.size());
    // The ends of so short a clip are where coders differ most.
    for (size_t i = 20; i + 20 < want.size(); ++i)
      ASSERT_NEAR(audio.samples[i], want[i], loss) << i;
  }
}

TEST(DecodeAudio, AveragesChannels) {
  // A WAV of one channel, told to have two.
  auto file = encode_wav({8000, {0.5f, 0.25f, -0.5f, 0.5f}});
  put(file, 22, 2, 2);
  put(file, 32, 4, 2);
  EXPECT_THAT(decode_audio(file, "a.wav", 8000).samples, testing::ElementsAre(0.375f, 0.f));
}

TEST(DecodeAudio, ResamplesATone) {
  for (const int64_t rate : {8000, 22050, 44100, 48000}) {
    const int64_t samples = rate / 2 + 1;
    const auto got = decode_audio(encode_wav(tone(rate, samples)), "a.wav", 16000).samples;
    const auto want = tone(16000, (samples * 16000 + rate - 1) / rate).samples;
    ASSERT_EQ(got.size(), want.size()) << rate;
    // Away from the ends, where the tone begins and stops at once, 16-bit rounding is what remains.
    for (size_t i = 400; i + 400 < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 5e-5) << rate;
  }
}

TEST(DecodeAudio, ResamplingLetsNothingFoldBack) {
  const auto audio = decode_audio(encode_wav(tone(48000, 24000, 11000)), "a.wav", 16000);
  for (size_t i = 400; i + 400 < audio.samples.size(); ++i) ASSERT_NEAR(audio.samples[i], 0, 3e-5);
}

TEST(DecodeAudio, RefusesAWavCutShort) {
  const auto file = encode_wav(tone(16000, 1000));
  EXPECT_THAT(refusal(std::span(file).first(file.size() - 501)),
              AllOf(HasSubstr("2000 bytes"), HasSubstr("1499 are there")));
  for (size_t length = 0; length < file.size(); ++length)
    EXPECT_NE(refusal(std::span(file).first(length)), "") << length;
}

TEST(DecodeAudio, RefusesAWavOfNoSamples) {
  EXPECT_THAT(refusal(encode_wav({16000, {}})), HasSubstr("0 samples"));
}

TEST(DecodeAudio, ReadsAWavOfUnknownLengthToItsEnd) {
  auto file = encode_wav(tone(16000, 1000));
  put(file, 40, 0xffffffff, 4);
  EXPECT_EQ(decode_audio(file, "a.wav", 16000).samples.size(), 1000);
}

TEST(DecodeAudio, HoldsToItsLimit) {
  const auto file = encode_wav(tone(16000, 16001));
  EXPECT_THAT(refusal(file, {.max_seconds = 1}), HasSubstr("limit of 1 seconds"));
  EXPECT_EQ(refusal(file, {.max_seconds = 1.001}), "");
}

TEST(DecodeAudio, SaysWhatTheFileIs) {
  EXPECT_THAT(refusal({}), HasSubstr("empty"));
  const std::string_view pdf = "%PDF-1.7 and so on";
  EXPECT_THAT(refusal(std::as_bytes(std::span(pdf))), HasSubstr("a PDF"));
  const std::string_view png = "\x89PNG\r\n\x1a\n";
  EXPECT_THAT(refusal(std::as_bytes(std::span(png))), HasSubstr("a PNG"));
  // RIFF and WAVE, but no samples of ours: IMA ADPCM.
  auto file = encode_wav(tone(16000, 100));
  put(file, 20, 0x11, 2);
  put(file, 34, 4, 2);
  EXPECT_NE(refusal(file), "");
}

TEST(DecodeAudio, RefusesEveryCutOfACodedFile) {
  for (const auto& file : {bytes_of(kFlac), bytes_of(kVorbis), bytes_of(kOpus), bytes_of(kMp3)})
    for (size_t length = 0; length < file.size(); ++length)
      EXPECT_NE(refusal(std::span(file).first(length)), "") << length << " of " << file.size();
}

TEST(DecodeAudio, DamagedBytesGiveAResultOrARefusal) {
  std::mt19937 random(1);
  const auto begin = std::chrono::steady_clock::now();
  int read = 0, refused = 0;
  const auto wav = encode_wav(tone(16000, 200));
  for (const auto& whole :
       {bytes_of(kFlac), bytes_of(kVorbis), bytes_of(kOpus), bytes_of(kMp3), wav}) {
    for (int round = 0; round < 400; ++round) {
      auto file = whole;
      // Half of them in the headers, which hold the sizes.
      const size_t range = round % 2 ? file.size() : std::min<size_t>(file.size(), 64);
      for (int flips = 1 + round % 3; flips > 0; --flips)
        file[random() % range] ^= static_cast<std::byte>(1 << random() % 8);
      ++(refusal(file, {.max_seconds = 60}).empty() ? read : refused);
    }
  }
  EXPECT_GT(read, 0);
  EXPECT_GT(refused, 0);
  // No number in a header makes it work for long: 2000 files of a few hundred samples each.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
}

TEST(DecodeAudio, ChecksTheRate) {
  const auto file = encode_wav(tone(16000, 100));
  EXPECT_THROW(decode_audio(file, "a.wav", 0), Error);
  EXPECT_THROW(decode_audio(file, "a.wav", int64_t{1} << 40), Error);
}

}  // namespace
}  // namespace veomni::media
