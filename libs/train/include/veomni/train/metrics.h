// SPDX-License-Identifier: Apache-2.0
/// What one optimizer step measured, and `metrics.jsonl`: a line a step.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace veomni {

class AppendFile;

/// A double that was not measured is NaN; it is `null` in the file.
struct StepMetrics {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  int64_t step = 0;                     ///< optimizer steps done, the first step is 1
  double loss = kUnknown;               ///< mean over the step's target tokens, nats
  double grad_norm = kUnknown;          ///< before clipping
  double lr = kUnknown;                 ///< base learning rate of this step
  int64_t tokens = 0;                   ///< trained on so far, this step included
  double tokens_per_second = kUnknown;  ///< of this step
  double step_ms = kUnknown;            ///< wall time of this step
  double mfu = kUnknown;                ///< model FLOP/s over the machine's peak, 0 to 1
  double peak_rss_mib = kUnknown;       ///< peak resident memory of the process so far, MiB
  /// Further numbers by name: "loss/<source>" for a source's or modality's share of the loss, "eval/loss",
  /// "eval/<set>/<metric>" for an evaluation done after this step; of the caching allocator, for this process in MiB,
  /// "memory_live_mib" (tensors that are alive after the step), "memory_peak_mib" (the most so far) and
  /// "memory_cached_mib" (held of the system, in use or not). A name must differ from the fields' above.
  std::map<std::string, double> more;
};

/// `<output>/metrics.jsonl`: one JSON object a line, keys step, loss, grad_norm, lr, tokens, tokens_per_second,
/// step_ms, mfu, peak_rss_mib, then those of `more` in alphabetical order. Doubles are written so that they read back
/// to the bit; what is not finite is `null`.
std::string metrics_file(const std::string& output_dir);

/// Appends a line a step. A line is with the kernel when write() returns.
class MetricsWriter {
 public:
  /// @param output_dir   made where missing
  /// @param resume_step  the checkpoint the run goes on from: later lines, left by a run that died after it, are cut
  ///                     off, so that the file stays one curve. Without it the file starts empty.
  /// @throws Error where the file cannot be opened, or a line kept is not a line of metrics.
  explicit MetricsWriter(const std::string& output_dir, std::optional<int64_t> resume_step = {});
  ~MetricsWriter();

  /// @throws Error on a full disk and the like, naming the file.
  void write(const StepMetrics& metrics);

 private:
  std::unique_ptr<AppendFile> file_;
};

/// All lines of a file that MetricsWriter wrote, `null` as NaN, unknown keys in `more`. A last line that was torn by a
/// crash is left out. @throws Error naming file and line where any other line is not one of metrics, or no such file.
std::vector<StepMetrics> read_metrics(const std::string& path);

}  // namespace veomni
