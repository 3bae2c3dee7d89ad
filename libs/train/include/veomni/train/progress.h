// SPDX-License-Identifier: Apache-2.0
/// The line a person watches while a run goes on.
#pragma once

#include <cstdint>
#include <memory>

#include "veomni/train/metrics.h"

namespace veomni {

struct ProgressOptions {
  int64_t total_steps = 0;  ///< of the whole run; 0: not known, no bar and no ETA
  int64_t start_step = 0;   ///< steps done before this process (resume)
  int fd = 2;               ///< where to: standard error, as the log
  double every_seconds =
      10;  ///< without a terminal: the longest silence between plain lines; 0: no such limit
  int64_t every_steps =
      0;  ///< without a terminal: a plain line at least every so many steps; 0: no such limit
};

/// On a terminal: one line with bar, percent, step/total, loss, learning rate, tokens/s, ETA and elapsed time that
/// overwrites itself, cut to the terminal's width (asked anew each time). Log lines go above it: while a Progress
/// lives it is the log's sink, and hands them to the sink before it.
/// Elsewhere (pipe, file, TERM=dumb): plain lines, the first and the last step always among them.
/// One per process, made by the primary rank; it never throws for what the terminal does.
class Progress {
 public:
  explicit Progress(const ProgressOptions& options);
  /// finish()
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Tells of a step done. Cheap: a terminal is redrawn at most ten times a second.
  void update(const StepMetrics& metrics);

  /// Shows the last step and leaves the cursor at the start of a fresh line; the log gets its sink back.
  void finish();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace veomni
