// SPDX-License-Identifier: Apache-2.0
// Values against transformers' feature extractor: tests/media.
#include "veomni/media/log_mel.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numbers>

#include "veomni/base/error.h"

namespace veomni::media {
namespace {

Audio tone(double hz, double loudness, int64_t samples) {
  Audio audio{16000, {}};
  for (int64_t i = 0; i < samples; ++i)
    audio.samples.push_back(static_cast<float>(
        loudness * std::sin(2 * std::numbers::pi * hz * static_cast<double>(i) / 16000)));
  return audio;
}

TEST(LogMel, CountsFrames) {
  const LogMel log_mel({.max_samples = 16000});
  EXPECT_EQ(log_mel.num_frames(0), 0);
  EXPECT_EQ(log_mel.num_frames(1), 1);
  EXPECT_EQ(log_mel.num_frames(160), 1);
  EXPECT_EQ(log_mel.num_frames(161), 2);
  EXPECT_EQ(log_mel.num_frames(16000), 100);
  EXPECT_EQ(log_mel.num_frames(16001), 100);
  EXPECT_EQ(log_mel(tone(440, 0.5, 161)).size(), 2 * 128);
}

TEST(LogMel, SilenceIsTheFloor) {
  const LogMel log_mel({.num_mels = 80});
  const auto values = log_mel({16000, std::vector<float>(800)});
  ASSERT_EQ(values.size(), 5 * 80);
  EXPECT_THAT(values, testing::Each((-10.0f + 4) / 4));
}

TEST(LogMel, ATonePeaksInItsBandAndNothingIsEightBelowIt) {
  // Slaney's scale has 45.245640471924965 mels below 8 kHz, 15 of them to 1 kHz.
  const double top = 45.245640471924965;
  for (const double hz : {200.0, 600.0, 1000.0, 4000.0}) {
    const auto values = LogMel({.num_mels = 80})(tone(hz, 0.5, 16000));
    const double mel = hz <= 1000 ? hz * 3 / 200 : 15 + std::log(hz / 1000) * 27 / std::log(6.4);
    const auto* middle = values.data() + 50 * 80;
    const auto peak = static_cast<double>(std::max_element(middle, middle + 80) - middle);
    EXPECT_NEAR(peak, mel / top * 81 - 1, 1.0) << hz;
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    EXPECT_FLOAT_EQ(*high - *low, 2) << hz;
  }
}

TEST(LogMel, TenTimesAsLoudIsTwoDecadesMore) {
  const LogMel log_mel({});
  const auto quiet = log_mel(tone(440, 0.05, 3200)), loud = log_mel(tone(440, 0.5, 3200));
  EXPECT_NEAR(*std::max_element(loud.begin(), loud.end()),
              *std::max_element(quiet.begin(), quiet.end()) + 2.0 / 4, 1e-5);
}

TEST(LogMel, CutsWhatIsTooLong) {
  const LogMel log_mel({.max_samples = 3200});
  auto audio = tone(440, 0.5, 3200);
  const auto whole = log_mel(audio);
  audio.samples.resize(8000, 1.0f);
  EXPECT_EQ(log_mel(audio), whole);
}

TEST(LogMel, RefusesWhatItCannotRead) {
  const LogMel log_mel({});
  EXPECT_THROW(log_mel({44100, {0.f}}), Error);
  EXPECT_THROW(log_mel({16000, {}}), Error);
  EXPECT_THROW(LogMel({.n_fft = 401}), ConfigError);
  EXPECT_THROW(LogMel({.hop_length = 0}), ConfigError);
}

}  // namespace
}  // namespace veomni::media
