// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/trainer.h"

#include <cmath>

#include "batch_input.h"
#include "setup.h"
#include "veomni/base/error.h"
#include "veomni/checkpoint/checkpoint.h"
#include "veomni/parallel/clip.h"

namespace veomni::train {

Trainer::Trainer(const Recipe& recipe, DeviceMesh& mesh, const data::Tokenizer& tokenizer)
    : recipe_(recipe), mesh_(mesh), dp_(data_parallel(mesh)) {
  auto ready =
      ready_model(recipe.model, recipe.parallel, mesh, nn::Masters::kTrainable, recipe.train.seed);
  model_ = std::move(ready.model);
  parallel_ = std::move(ready.parallel);
  check_vocabulary(tokenizer, model_->foundation().vocab_size(), tokenizer_path(recipe));
  make_optimizer();
  if (recipe.train.steps == 0) return;
  data::LoaderPlan plan;
  plan.seed = recipe.train.seed;
  plan.micro_batch_tokens = recipe.train.micro_batch_tokens;
  plan.accumulation = recipe.train.accumulation;
  plan.dp_rank = dp_.rank();
  plan.dp_size = dp_.size();
  loader_ = std::make_unique<data::Loader>(recipe.data, plan, tokenizer);
}

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

std::vector<data::Batch> Trainer::next_batches() {
  std::vector<data::Batch> batches;
  for (const auto& micro_batch : loader_->next()) batches.push_back(data::collate(micro_batch));
  return batches;
}

// What the step's losses are divided by must be known before its first backward: one all-reduce a step.
StepResult Trainer::count(const std::vector<data::Batch>& batches) {
  const auto& foundation = model_->foundation();
  StepResult result;
  for (const auto& batch : batches) {
    result.tokens += batch.num_tokens();
    result.loss_tokens += batch.num_loss_tokens;
    result.flops +=
        3.0 * foundation.weight_flops_per_token() * static_cast<double>(batch.num_tokens());
    for (size_t i = 1; i < batch.cu_seqlens.size(); ++i) {
      result.flops +=
          3.0 * foundation.attention_flops(batch.cu_seqlens[i] - batch.cu_seqlens[i - 1]);
    }
  }
  auto sums = torch::tensor(
      {static_cast<double>(result.tokens), static_cast<double>(result.loss_tokens), result.flops},
      torch::kDouble);
  dp_.all_reduce(sums, sums, ReduceOp::kSum)->wait();
  const double* sum = sums.data_ptr<double>();
  result.tokens = static_cast<int64_t>(sum[0]);
  result.loss_tokens = static_cast<int64_t>(sum[1]);
  result.flops = sum[2];
  return result;
}

double Trainer::forward_backward(const data::Batch& batch, int64_t loss_tokens) {
  const double scale = loss_tokens > 0 ? 1.0 / static_cast<double>(loss_tokens) : 0.0;
  double value = 0;
  torch::Tensor total;
  for (auto& [name, loss] : model_->losses(batch_input(batch), {{"text", scale}})) {
    value += loss.item<double>();
    total = total.defined() ? total + loss : loss;
  }
  if (total.requires_grad()) total.backward();
  return value;
}

StepResult Trainer::step() {
  const auto batches = next_batches();
  StepResult result = count(batches);
  for (const auto& batch : batches) result.loss += forward_backward(batch, result.loss_tokens);
  auto loss = torch::full({1}, result.loss, torch::kDouble);
  dp_.all_reduce(loss, loss, ReduceOp::kSum)->wait();
  result.loss = loss.item<double>();

  result.grad_norm = parallel::gradient_norm(trained_, *parallel_.group);
  check_finite(result.loss, result.grad_norm, batches);
  const double factor = optim::lr_factor(recipe_.optim, steps_done_, recipe_.train.steps);
  result.lr = recipe_.optim.lr * factor;

  std::vector<torch::Tensor> grads;
  for (const auto& parameter : trained_) grads.push_back(parameter.grad());
  optimizer_->step(grads, factor, parallel::clip_coefficient(result.grad_norm, recipe_.optim.clip));
  for (auto& parameter : trained_) parameter.clear_grad();
  ++steps_done_;
  return result;
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
