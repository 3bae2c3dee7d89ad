// SPDX-License-Identifier: Apache-2.0
/// One rank of a training job, in data-flow order.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "veomni/comm/device_mesh.h"
#include "veomni/data/collator.h"
#include "veomni/data/loader.h"
#include "veomni/model/omni_model.h"
#include "veomni/optim/optimizer.h"
#include "veomni/parallel/plan.h"
#include "veomni/train/recipe.h"

namespace veomni::train {

/// What one step did.
struct StepResult {
  double loss =
      0;  ///< Σ weight · mean loss; with text alone the mean over all counted tokens of the step, all ranks
  std::map<std::string, double> losses;  ///< the mean losses by name; 0 where none counted
  double grad_norm = 0;                  ///< global, before clipping
  double lr = 0;                         ///< base learning rate
  int64_t tokens = 0;                    ///< tokens run through the model, all ranks
  double flops = 0;  ///< model FLOPs, forward and backward, all ranks; recompute not counted
};

class Objective;
class CodebookKeeper;

/// Builds model, optimizer and loader on this rank and steps them. Every rank of the mesh makes the same calls.
class Trainer {
 public:
  /// Model on meta -> parallelize -> materialize -> weights -> optimizer -> loader; nothing is written to disk.
  Trainer(const Recipe& recipe, DeviceMesh& mesh, const data::Tokenizer& tokenizer);
  ~Trainer();

  /// micro-batches -> global token count -> forward and backward of each -> norm and clip -> update.
  /// @throws veomni::Error before the update if loss or gradient norm is not finite, naming step, micro-batch, tensor
  StepResult step();

  int64_t steps_done() const { return steps_done_; }
  model::OmniModel& model() { return *model_; }
  optim::Optimizer& optimizer() { return *optimizer_; }
  data::Loader* loader() { return loader_.get(); }
  /// How the model is spread over the mesh.
  const parallel::Parallelized& parallel() const { return parallel_; }

  /// Saves below `root` / restores from a step directory. Collective.
  void save(const std::string& root);
  void restore(const std::string& directory);

 private:
  std::vector<data::Batch> next_batches();
  StepResult count(const std::vector<data::Batch>& batches,
                   std::map<std::string, double>& loss_counts);
  void run_batches(const std::vector<data::Batch>& batches,
                   const std::map<std::string, double>& loss_counts, StepResult& result);
  void update(StepResult& result);
  void check_finite(double loss, double grad_norm, const std::vector<data::Batch>& batches);
  void make_optimizer();
  void keep_packed_weights();

  const Recipe& recipe_;
  DeviceMesh& mesh_;
  Communicator& dp_;
  std::unique_ptr<model::OmniModel> model_;
  parallel::Parallelized parallel_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::vector<nn::Parameter> trained_;  // in the optimizer's order
  std::unique_ptr<data::Loader> loader_;
  std::unique_ptr<Objective> objective_;
  std::unique_ptr<CodebookKeeper> codebook_;  // where a tokenizer trains
  int64_t steps_done_ = 0;
};

}  // namespace veomni::train
