// SPDX-License-Identifier: Apache-2.0
/// The text of the progress line: pure functions, tested without a terminal.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "veomni/train/metrics.h"

namespace veomni {

/// Seconds left, from a smoothed time per step.
class StepRate {
 public:
  explicit StepRate(int64_t start_step) : last_step_(start_step) {}

  /// @param seconds  since the process began to train
  void update(int64_t step, double seconds);
  /// Nothing before the first step.
  std::optional<double> seconds_for(int64_t steps) const;

 private:
  int64_t last_step_;
  double last_seconds_ = 0;
  double weighted_ = 0, weight_ = 0;
};

struct Status {
  StepMetrics metrics;
  int64_t total_steps = 0;  ///< 0: not known
  double elapsed_seconds = 0;
  std::optional<double> eta_seconds;
};

/// "01:02:03"; hours grow beyond two digits where they must.
std::string clock_text(double seconds);
/// "987", "12.3k", "4.56M"; "-" where not finite.
std::string short_number(double value);

/// The terminal's line, at most `columns` wide. Where space is short the bar shrinks, then parts go: elapsed time,
/// learning rate, tokens/s, bar, ETA, percent, loss; the step stays to the end.
std::string status_line(const Status& status, int columns);
/// The plain line of a log file.
std::string plain_line(const Status& status);

/// The first `columns` code points of UTF-8 text, never cutting one in half.
std::string_view cut_columns(std::string_view text, int columns);
int count_columns(std::string_view text);

}  // namespace veomni
