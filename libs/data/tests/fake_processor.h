// SPDX-License-Identifier: Apache-2.0
/// A processor whose media files say in words what they become, and how tests write such files.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "veomni/data/media_processors.h"

namespace veomni::data {

/// A file "2 3 4" becomes 24 tokens that lie as {2, 3, 4}; its features are 48 rows of 3 values that count up from the
/// file's number, the optional fourth word. Everything else is BadMedia.
class FakeProcessor : public media::Processor {
 public:
  /// Half the files take a while, so that threads finish in another order than they began.
  explicit FakeProcessor(bool slow = false) : slow_(slow) {}

  media::Features process(std::span<const std::byte> file,
                          const std::string& where) const override {
    const std::string text(reinterpret_cast<const char*>(file.data()), file.size());
    long t = 0, h = 0, w = 0, number = 0;
    if (std::sscanf(text.c_str(), "%ld %ld %ld %ld", &t, &h, &w, &number) < 3)
      throw media::BadMedia(where + ": is no picture");
    if (slow_ && calls_++ % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    media::Features features;
    features.tokens = t * h * w;
    features.token_grid = {t, h, w};
    features.grid = {t, 2 * h, w};
    features.rows = 2 * features.tokens;
    features.width = 3;
    for (int64_t i = 0; i < features.rows * features.width; ++i)
      features.values.push_back(static_cast<float>(number + i));
    return features;
  }

 private:
  bool slow_;
  mutable std::atomic<int> calls_{0};
};

/// Encoders for pictures and sound, a decoder for pictures.
inline MediaProcessors fake_processors(bool slow = false) {
  const auto processor = std::make_shared<FakeProcessor>(slow);
  return {.inputs = {{"image", processor}, {"audio", processor}},
          .targets = {{"image", processor}}};
}

inline std::string base64_of(const std::string& bytes) {
  const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j)
      bits = bits << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j)
      out += i + j <= bytes.size() ? digits[bits >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

inline std::string data_uri(const std::string& bytes) {
  return "data:image/png;base64," + base64_of(bytes);
}

}  // namespace veomni::data
