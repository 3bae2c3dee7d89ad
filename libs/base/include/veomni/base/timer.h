// SPDX-License-Identifier: Apache-2.0
/// Wall-clock spans.
#pragma once

#include <chrono>

namespace veomni {

/// Milliseconds since construction or the last restart().
class Timer {
 public:
  double elapsed_ms() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
        .count();
  }
  void restart() { start_ = std::chrono::steady_clock::now(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace veomni
