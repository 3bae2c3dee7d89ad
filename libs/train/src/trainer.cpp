// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/trainer.h"

#include <cmath>
#include <optional>

#include "codebook.h"
#include "objective.h"
#include "setup.h"
#include "veomni/base/error.h"
#include "veomni/base/trace.h"
#include "veomni/checkpoint/checkpoint.h"
#include "veomni/parallel/clip.h"

namespace veomni::train {

namespace {

/// A phase of a step in a profile; its name is one of kPhases (profile/profile_table.h).
struct Phase : trace::Span {
  explicit Phase(const char* name) : Span(trace::Category::kPhase, name) {}
};

}  // namespace

Trainer::Trainer(const Recipe& recipe, DeviceMesh& mesh, const data::Tokenizer& tokenizer)
    : recipe_(recipe), mesh_(mesh), dp_(data_parallel(mesh)) {
  auto ready =
      ready_model(recipe.model, recipe.parallel, mesh, nn::Masters::kTrainable, recipe.train.seed);
  model_ = std::move(ready.model);
  parallel_ = std::move(ready.parallel);
  if (model_->has_foundation())
    check_vocabulary(tokenizer, model_->foundation().vocab_size(), tokenizer_path(recipe));
  make_optimizer();
  keep_packed_weights();
  objective_ = make_objective(recipe, *model_);
  if (!model_->has_foundation()) {
    codebook_ = std::make_unique<CodebookKeeper>(recipe.train.codebook, recipe.train.seed, *model_,
                                                 dp_, *parallel_.group);
  }
  if (recipe.train.steps == 0) return;
  data::LoaderPlan plan;
  plan.seed = recipe.train.seed;
  plan.micro_batch_tokens = recipe.train.micro_batch_tokens;
  plan.accumulation = recipe.train.accumulation;
  plan.dp_rank = dp_.rank();
  plan.dp_size = dp_.size();
  loader_ = std::make_unique<data::Loader>(recipe.data, plan, tokenizer,
                                           make_processors(*model_, recipe.model));
}

Trainer::~Trainer() = default;

void Trainer::make_optimizer() {
  std::vector<optim::OptimParam> params;
  std::vector<std::string> names;
  for (const auto& [path, parameter] : model_->named_parameters()) {
    if (!parameter.trainable()) continue;
    optim::OptimParam param{parameter.name(), parameter.master(), parameter.local()};
    const bool is_norm_or_bias = (parameter.tags() & (nn::kTagNorm | nn::kTagBias)) != 0;
    optim::apply_groups(recipe_.optim, is_norm_or_bias, param);
    params.push_back(std::move(param));
    names.push_back(parameter.name());
    trained_.push_back(parameter);
  }
  VEOMNI_CHECK_CONFIG(recipe_.train.steps == 0 || !params.empty(), recipe_.file,
                      ": nothing trains: every part of the model says train: none");
  optim::check_options(recipe_.optim, names);
  optimizer_ = optim::make_optimizer(recipe_.optim, std::move(params));
}

void Trainer::keep_packed_weights() {
  const auto& when = recipe_.memory.packed_weights;
  const bool keep = when == "always" || (when == "auto" && recipe_.train.accumulation > 1);
  for (const auto& [path, parameter] : model_->named_parameters()) parameter.packed()->keep(keep);
}

std::vector<data::Batch> Trainer::next_batches() {
  const Phase phase("data");
  const int axes =
      model_->has_foundation() ? static_cast<int>(model_->foundation().position_axes()) : 1;
  std::vector<data::Batch> batches;
  for (const auto& micro_batch : loader_->next())
    batches.push_back(data::collate(micro_batch, axes));
  return batches;
}

// What the step's losses are divided by must be known before its first backward: one all-reduce a step.
StepResult Trainer::count(const std::vector<data::Batch>& batches, LossValues& loss_counts) {
  const Phase phase("count");
  double tokens = 0, flops = 0;
  for (const auto& batch : batches) {
    tokens += static_cast<double>(batch.num_tokens());
    flops += objective_->flops(batch);
    for (const auto& [name, count] : objective_->counts(batch)) loss_counts[name] += count;
  }
  std::vector<double*> sums = {&tokens, &flops};
  for (auto& [name, count] : loss_counts) sums.push_back(&count);
  sum_over_ranks(dp_, sums);
  StepResult result;
  result.tokens = static_cast<int64_t>(tokens);
  result.flops = flops;
  return result;
}

void Trainer::run_batches(const std::vector<data::Batch>& batches, const LossValues& loss_counts,
                          StepResult& result) {
  for (size_t i = 0; i < batches.size(); ++i) {
    const auto term = [&] {
      const Phase phase("forward");
      return objective_->forward(batches[i], loss_counts, steps_done_);
    }();
    for (const auto& [name, value] : term.values) result.losses[name] += value;
    if (!term.total.requires_grad()) continue;
    const Phase phase("backward");
    std::optional<parallel::DeferGradientSync> until_the_last;
    if (i + 1 < batches.size()) until_the_last.emplace(parallel_.state);
    term.total.backward();
  }
  const Phase phase("losses");
  std::vector<double*> sums;
  for (auto& [name, value] : result.losses) sums.push_back(&value);
  sum_over_ranks(dp_, sums);
  result.loss = objective_->total(result.losses);
}

StepResult Trainer::step() {
  const auto batches = next_batches();
  LossValues loss_counts;
  StepResult result = count(batches, loss_counts);
  if (codebook_) {
    const Phase phase("codebook");
    codebook_->before_step(steps_done_, batches);
  }
  run_batches(batches, loss_counts, result);
  {
    const Phase phase("clip");
    result.grad_norm = parallel::gradient_norm(trained_, *parallel_.group);
    check_finite(result.loss, result.grad_norm, batches);
  }
  update(result);
  ++steps_done_;
  return result;
}

void Trainer::update(StepResult& result) {
  const Phase phase("optimizer");
  const double factor = optim::lr_factor(recipe_.optim, steps_done_, recipe_.train.steps);
  result.lr = recipe_.optim.lr * factor;

  std::vector<torch::Tensor> grads;
  for (const auto& parameter : trained_) grads.push_back(parameter.grad());
  optimizer_->step(grads, factor, parallel::clip_coefficient(result.grad_norm, recipe_.optim.clip));
  for (auto& parameter : trained_) {
    parameter.written();
    parameter.clear_grad();
  }
}

void Trainer::check_finite(double loss, double grad_norm, const std::vector<data::Batch>& batches) {
  if (std::isfinite(loss) && std::isfinite(grad_norm)) return;
  std::string tensors;
  for (const auto& parameter : trained_) {
    const auto grad = parameter.grad();
    if (grad.defined() && !torch::isfinite(grad).all().item<bool>()) {
      tensors = "; the first gradient that is not finite: " + parameter.name();
      break;
    }
  }
  std::string samples;
  for (const auto& batch : batches) {
    for (size_t i = 0; i < batch.sample_ids.size() && samples.size() < 200; ++i) {
      samples += (samples.empty() ? "" : ", ") + std::to_string(batch.sample_ids[i]);
    }
  }
  throw_error(detail::concat(
      "step ", steps_done_ + 1, ": loss is ", loss, ", gradient norm ", grad_norm, tensors,
      ". The weights were not updated. Lower optim.lr, or look at this step's samples: ", samples));
}

void Trainer::save(const std::string& root) {
  checkpoint::TrainingState state{model_.get(), optimizer_.get(), {}};
  if (loader_) state.extra["loader"] = loader_->state();
  state.extra["seed"] = recipe_.train.seed;
  checkpoint::save(root, steps_done_, state, *mesh_.communicator("world"));
}

void Trainer::restore(const std::string& directory) {
  const auto extra = checkpoint::load(directory, {model_.get(), optimizer_.get(), {}},
                                      *mesh_.communicator("world"));
  steps_done_ = extra.at("step").get<int64_t>();
  if (loader_ && extra.contains("loader")) loader_->restore(extra.at("loader"));
}

}  // namespace veomni::train
