// SPDX-License-Identifier: Apache-2.0
#include "veomni/media/log_mel.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "veomni/base/error.h"

namespace veomni::media {

namespace {

// Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1000 Hz, logarithmic above.
constexpr double kLinearHz = 200.0 / 3;
constexpr double kBreakHz = 1000.0;
constexpr double kBreakMel = kBreakHz / kLinearHz;
const double kLogStep = std::log(6.4) / 27.0;

double hz_to_mel(double hz) {
  return hz < kBreakHz ? hz / kLinearHz : kBreakMel + std::log(hz / kBreakHz) / kLogStep;
}

double mel_to_hz(double mel) {
  return mel < kBreakMel ? mel * kLinearHz : kBreakHz * std::exp((mel - kBreakMel) * kLogStep);
}

constexpr double kFloor = 1e-10;
constexpr double kRange = 8.0;

}  // namespace

LogMel::LogMel(const LogMelOptions& options) : options_(options), freqs_(options.n_fft / 2 + 1) {
  const int64_t n = options_.n_fft;
  VEOMNI_CHECK_CONFIG(n > 0 && n % 2 == 0 && options_.hop_length > 0 && options_.num_mels > 0 &&
                          options_.max_samples >= n,
                      "log-mel: n_fft=", n, " must be even, hop_length=", options_.hop_length,
                      " and the number of mels ", options_.num_mels,
                      " more than 0, the longest clip ", options_.max_samples, " at least n_fft");
  const double step = 2 * std::numbers::pi / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i)
    window_.push_back(0.5 - 0.5 * std::cos(step * static_cast<double>(i)));
  for (int64_t k = 0; k < freqs_; ++k) {
    for (int64_t i = 0; i < freqs_; ++i) {
      // Reduced first: a large product would cost digits.
      const double angle = step * static_cast<double>(k * i % n);
      cos_.push_back(std::cos(angle));
      sin_.push_back(std::sin(angle));
    }
  }
  make_filters();
}

void LogMel::make_filters() {
  const double nyquist = static_cast<double>(options_.sample_rate) / 2;
  const double top = hz_to_mel(std::min(nyquist, 8000.0));
  std::vector<double> edges;
  for (int64_t i = 0; i < options_.num_mels + 2; ++i) {
    edges.push_back(
        mel_to_hz(top * static_cast<double>(i) / static_cast<double>(options_.num_mels + 1)));
  }
  for (int64_t m = 0; m < options_.num_mels; ++m) {
    const double low = edges[m], peak = edges[m + 1], high = edges[m + 2];
    Filter filter;
    for (int64_t k = 0; k < freqs_; ++k) {
      const double hz = nyquist * static_cast<double>(k) / static_cast<double>(freqs_ - 1);
      const double weight = std::min((hz - low) / (peak - low), (high - hz) / (high - peak));
      if (weight <= 0) continue;
      if (filter.weights.empty()) filter.begin = k;
      // Equal energy in every band.
      filter.weights.push_back(weight * 2 / (high - low));
    }
    filters_.push_back(std::move(filter));
  }
}

int64_t LogMel::num_frames(int64_t samples) const {
  return (std::min(samples, options_.max_samples) + options_.hop_length - 1) / options_.hop_length;
}

double LogMel::sample(const Audio& audio, int64_t index) const {
  const int64_t length = options_.max_samples;
  if (index < 0) index = -index;
  if (index >= length) index = 2 * (length - 1) - index;
  return index < static_cast<int64_t>(audio.samples.size()) ? audio.samples[index] : 0.0;
}

// The mel energies of one frame.
void LogMel::energies(const Audio& audio, int64_t frame, double* out) const {
  const int64_t n = options_.n_fft, half = n / 2;
  const int64_t begin = frame * options_.hop_length - half;
  // cos is even and sin odd about half of the window, so samples that mirror each other there share a product.
  std::vector<double> even(freqs_), odd(freqs_);
  const auto windowed = [&](int64_t i) { return sample(audio, begin + i) * window_[i]; };
  even[0] = windowed(0);
  even[half] = windowed(half);
  for (int64_t i = 1; i < half; ++i) {
    const double left = windowed(i), right = windowed(n - i);
    even[i] = left + right;
    odd[i] = left - right;
  }
  std::vector<double> power(freqs_);
  for (int64_t k = 0; k < freqs_; ++k) {
    const double *cos = cos_.data() + k * freqs_, *sin = sin_.data() + k * freqs_;
    double real = 0, imaginary = 0;
    for (int64_t i = 0; i < freqs_; ++i) {
      real += even[i] * cos[i];
      imaginary += odd[i] * sin[i];
    }
    power[k] = real * real + imaginary * imaginary;
  }
  for (size_t m = 0; m < filters_.size(); ++m) {
    const Filter& filter = filters_[m];
    double sum = 0;
    for (size_t j = 0; j < filter.weights.size(); ++j)
      sum += filter.weights[j] * power[filter.begin + j];
    out[m] = std::log10(std::max(sum, kFloor));
  }
}

std::vector<float> LogMel::operator()(const Audio& audio) const {
  VEOMNI_CHECK(audio.sample_rate == options_.sample_rate && !audio.samples.empty(),
               "log-mel: ", audio.samples.size(), " samples at ", audio.sample_rate,
               " Hz; it wants some at ", options_.sample_rate, " Hz");
  const int64_t frames = num_frames(static_cast<int64_t>(audio.samples.size()));
  // The silence after a clip has frames too, and the first of them still hear its end: they count for the greatest.
  const int64_t heard = std::min(frames + (options_.n_fft / 2) / options_.hop_length + 1,
                                 options_.max_samples / options_.hop_length);
  const int64_t mels = options_.num_mels;
  std::vector<double> all(std::max(heard, frames) * mels);
  for (int64_t frame = 0; frame < std::max(heard, frames); ++frame)
    energies(audio, frame, all.data() + frame * mels);
  const double low = *std::max_element(all.begin(), all.end()) - kRange;
  std::vector<float> out(frames * mels);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>((std::max(all[i], low) + 4.0) / 4.0);
  return out;
}

}  // namespace veomni::media
