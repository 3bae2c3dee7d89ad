// SPDX-License-Identifier: Apache-2.0
/// Whisper's log-mel spectrogram (arXiv 2212.04356, section 2.2), as transformers' WhisperFeatureExtractor computes it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace veomni::media {

struct LogMelOptions {
  int64_t num_mel_bins = 128;
  int64_t sample_rate = 16000;
  int64_t n_fft = 400;         ///< samples of a frame; even, of prime factors 2, 3 and 5
  int64_t hop_length = 160;    ///< samples between frames
  int64_t chunk_length = 300;  ///< seconds a clip is padded, or cut, to
};

/// Frames every `hop_length` samples, centred; a periodic Hann window; power; triangular filters on Slaney's mel scale
/// from 0 to 8 kHz, each of equal area; x = log10(max(1e-10, ·)), not below (the largest of the whole padded clip) − 8;
/// (x + 4) / 4. At its two ends the padded clip is continued by reflection.
///
/// Thread-safe: tables are made once, in the constructor.
class LogMel {
 public:
  /// @throws ConfigError for options out of range
  explicit LogMel(const LogMelOptions& options);

  /// L of a clip of `samples`: ⌈min(samples, chunk_length · sample_rate) / hop_length⌉.
  int64_t num_frames(int64_t samples) const;

  /// Samples of one channel -> [L, num_mel_bins], row-major. No samples: no frames.
  std::vector<float> operator()(std::span<const float> samples) const;

  const LogMelOptions& options() const { return options_; }

 private:
  LogMelOptions options_;
};

}  // namespace veomni::media
