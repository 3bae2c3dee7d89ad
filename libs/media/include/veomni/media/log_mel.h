// SPDX-License-Identifier: Apache-2.0
/// Sound as frames of log-mel energies, the way Whisper reads it (Radford et al., arXiv 2212.04356, section 2.2).
#pragma once

#include <cstdint>
#include <vector>

#include "veomni/media/audio.h"

namespace veomni::media {

struct LogMelOptions {
  int64_t sample_rate = 16000;
  int64_t num_mels = 128;
  int64_t n_fft = 400;
  int64_t hop_length = 160;
  /// Samples beyond it are cut off; a shorter clip is as if followed by silence up to it.
  int64_t max_samples = 16000 * 300;
};

/// log10 mel energies of a periodic Hann window's spectrum, floored at 1e-10 and at eight below the clip's greatest, then
/// (x + 4) / 4. Slaney's mel scale and norm. Frames are centred on multiples of the hop; what lies before the first sample
/// is its mirror image.
///
/// Thread-safe. Made once: it holds the window, the transform and the filters.
class LogMel {
 public:
  explicit LogMel(const LogMelOptions& options);

  /// Frames of `samples` samples: ceil(min(samples, max_samples) / hop).
  int64_t num_frames(int64_t samples) const;
  /// [num_frames, num_mels], row-major. @throws Error for another sample rate or no samples
  std::vector<float> operator()(const Audio& audio) const;

 private:
  /// A triangle over frequencies [begin, begin + weights.size()).
  struct Filter {
    int64_t begin = 0;
    std::vector<double> weights;
  };
  void make_filters();
  double sample(const Audio& audio, int64_t index) const;
  void energies(const Audio& audio, int64_t frame, double* out) const;

  LogMelOptions options_;
  int64_t freqs_;
  std::vector<double> window_;
  std::vector<double> cos_, sin_;  // [freqs, n_fft / 2 + 1]
  std::vector<Filter> filters_;
};

}  // namespace veomni::media
