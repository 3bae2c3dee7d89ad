// SPDX-License-Identifier: Apache-2.0
/// What a run writes below its output directory, and what it shows meanwhile. Rank 0 only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "veomni/base/timer.h"
#include "veomni/train/evaluate.h"
#include "veomni/train/metrics.h"
#include "veomni/train/progress.h"
#include "veomni/train/recipe.h"
#include "veomni/train/report.h"
#include "veomni/train/tensorboard.h"
#include "veomni/train/trainer.h"

namespace veomni::train {

std::string checkpoint_root(const Recipe& recipe);
std::string hf_directory(const Recipe& recipe);

/// The metrics of one run, on disk and on the terminal.
class RunDirectory {
 public:
  /// @param resumed  the step the run goes on from
  RunDirectory(const Recipe& recipe, std::optional<int64_t> resumed);

  /// @param step_ms  wall time of the step
  void add_step(const StepResult& result, int64_t step, double step_ms,
                const std::map<std::string, double>& evaluation);

  /// Ends the progress line; later output starts on a fresh one.
  void finish();

  /// Writes eval.json and report.html.
  void write_results(model::OmniModel& model, const std::map<std::string, double>& metrics,
                     const std::vector<SampleAnswer>& answers,
                     const std::vector<EvalExhibit>& exhibits);

  double total_flops() const { return total_flops_; }
  double total_seconds() const { return timer_.elapsed_ms() / 1e3; }

 private:
  ReportData report(model::OmniModel& model, const std::map<std::string, double>& metrics,
                    const std::vector<SampleAnswer>& answers,
                    const std::vector<EvalExhibit>& exhibits) const;

  const Recipe& recipe_;
  Timer timer_;
  MetricsWriter metrics_;
  TensorBoardWriter tensorboard_;
  std::unique_ptr<Progress> progress_;
  int64_t tokens_ = 0;
  double total_flops_ = 0;
};

/// Peak resident memory of this process in MiB (VmHWM), NaN where the system does not say.
double peak_rss_mib();

}  // namespace veomni::train
