// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "veomni/base/error.h"
#include "veomni/media/audio.h"

namespace veomni::media {

namespace {

void put_name(std::vector<std::byte>& out, std::string_view name) {
  for (const char c : name) out.push_back(static_cast<std::byte>(c));
}

// The lowest `bytes` bytes of a number, the least first.
void put_number(std::vector<std::byte>& out, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(value >> 8 * i));
}

}  // namespace

std::vector<std::byte> encode_wav(const Audio& audio) {
  constexpr int64_t kHeaderBytes = 44;
  constexpr int64_t kMaxSamples = (std::numeric_limits<uint32_t>::max() - kHeaderBytes) / 2;
  constexpr int64_t kMaxRate = std::numeric_limits<uint32_t>::max() / 2;
  const auto num_samples = static_cast<int64_t>(audio.samples.size());
  VEOMNI_CHECK(num_samples <= kMaxSamples, "encode_wav: ", num_samples,
               " samples are more than a WAV holds (", kMaxSamples, ")");
  VEOMNI_CHECK(audio.sample_rate >= 1 && audio.sample_rate <= kMaxRate, "encode_wav: sample_rate ",
               audio.sample_rate, " is not in [1, ", kMaxRate, "]");
  const auto data_bytes = static_cast<uint32_t>(2 * num_samples);
  const auto rate = static_cast<uint32_t>(audio.sample_rate);
  constexpr uint32_t kPcm = 1, kChannels = 1, kBytesASample = 2, kFormatBytes = 16;
  std::vector<std::byte> out;
  out.reserve(kHeaderBytes + data_bytes);
  put_name(out, "RIFF");
  put_number(out, kHeaderBytes - 8 + data_bytes, 4);
  put_name(out, "WAVEfmt ");
  put_number(out, kFormatBytes, 4);
  put_number(out, kPcm, 2);
  put_number(out, kChannels, 2);
  put_number(out, rate, 4);
  put_number(out, rate * kBytesASample, 4);
  put_number(out, kBytesASample, 2);
  put_number(out, 8 * kBytesASample, 2);
  put_name(out, "data");
  put_number(out, data_bytes, 4);
  for (int64_t i = 0; i < num_samples; ++i) {
    const float sample = audio.samples[i];
    VEOMNI_CHECK(std::isfinite(sample), "encode_wav: sample ", i, " is ", sample);
    const float scaled = std::clamp(std::nearbyint(sample * 32768.0f), -32768.0f, 32767.0f);
    put_number(out, static_cast<uint32_t>(static_cast<int32_t>(scaled)), 2);
  }
  return out;
}

}  // namespace veomni::media
