// SPDX-License-Identifier: Apache-2.0
/// Sound: decoding, resampling, writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace veomni::media {

/// One channel, nominally in [-1, 1]. Several channels are averaged.
struct Audio {
  int64_t sample_rate = 0;
  std::vector<float> samples;
};

struct AudioLimits {
  double max_seconds = 3600;
};

/// WAV, FLAC, MP3 or OGG, told apart by content; resampled to `sample_rate`. @throws BadMedia, also for no samples and
/// for a file that ends before its header says
Audio decode_audio(std::span<const std::byte> file, const std::string& where, int64_t sample_rate,
                   const AudioLimits& limits = {});

/// 16-bit PCM.
std::vector<std::byte> encode_wav(const Audio& audio);

}  // namespace veomni::media
