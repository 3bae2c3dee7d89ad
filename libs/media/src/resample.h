// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

struct SwrContext;

namespace veomni::media {

/// One channel from one sample rate to another, piece by piece. Equal rates: the samples as they are.
class Resampler {
 public:
  static constexpr int64_t kMaxRate = 768000;

  /// @throws Error for rates outside [1, kMaxRate]
  Resampler(int64_t from, int64_t to);
  ~Resampler();
  Resampler(const Resampler&) = delete;
  Resampler& operator=(const Resampler&) = delete;

  void push(std::span<const float> samples);
  /// All samples, ⌈pushed · to / from⌉ of them; the first lies where the first pushed one lay. Ends the stream.
  std::vector<float> finish();

 private:
  void convert(const float* samples, int64_t count);

  int64_t from_, to_, pushed_ = 0;
  SwrContext* swr_ = nullptr;
  std::vector<float> out_;
};

}  // namespace veomni::media
