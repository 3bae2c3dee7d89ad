// SPDX-License-Identifier: Apache-2.0
#include "veomni/optim/optimizer.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <numbers>

#include "kernels/update.h"
#include "veomni/base/error.h"

namespace veomni::optim {

namespace {

// Elements a task: large enough that a thread's start is lost in it, small enough to share a big embedding.
constexpr int64_t kGrain = 1 << 16;

// The compute copy as raw bf16 bits, or null where it is the master itself.
uint16_t* bf16_copy(const OptimParam& param) {
  if (param.compute.is_alias_of(param.master)) return nullptr;
  return static_cast<uint16_t*>(param.compute.data_ptr());
}

void check_param(const OptimParam& param, const torch::Tensor& grad) {
  VEOMNI_CHECK(
      grad.sizes() == param.master.sizes() && grad.scalar_type() == param.master.scalar_type(),
      "parameter ", param.name, ": gradient ", grad.sizes(), " ", grad.scalar_type(),
      " does not fit its master ", param.master.sizes(), " ", param.master.scalar_type());
}

template <typename Update> void dispatch(const OptimParam& param, Update update) {
  const int64_t n = param.master.numel();
  at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    if (param.master.scalar_type() == torch::kDouble) {
      update(double{}, begin, end);
    } else {
      update(float{}, begin, end);
    }
  });
}

// Runs a rule on every parameter that has a gradient, with the rates of its group in the rule's scalars.
template <typename Scalars, typename Update>
void update_each(const std::vector<OptimParam>& params, const std::vector<torch::Tensor>& grads,
                 double lr_factor, Scalars& s, Update update) {
  for (size_t i = 0; i < params.size(); ++i) {
    if (!grads[i].defined()) continue;
    const auto grad = grads[i].contiguous();
    check_param(params[i], grad);
    s.lr = params[i].lr * lr_factor;
    s.weight_decay = params[i].weight_decay;
    dispatch(params[i], [&](auto zero, int64_t begin, int64_t end) {
      update(i, params[i], grad, zero, begin, end);
    });
  }
}

class AdamW final : public Optimizer {
 public:
  AdamW(const OptimOptions& options, std::vector<OptimParam> params)
      : Optimizer(std::move(params)), options_(options) {
    for (const auto& param : params_) {
      exp_avg_.push_back(torch::zeros_like(param.master));
      exp_avg_sq_.push_back(torch::zeros_like(param.master));
    }
  }

  void step(const std::vector<torch::Tensor>& grads, double lr_factor, double grad_scale) override {
    ++steps_;
    kernels::AdamwScalars s{};
    s.beta1 = options_.betas[0];
    s.beta2 = options_.betas[1];
    s.eps = options_.eps;
    s.grad_scale = grad_scale;
    s.correction1 = 1 - std::pow(s.beta1, steps_);
    s.root_correction2 = std::sqrt(1 - std::pow(s.beta2, steps_));
    update_each(params_, grads, lr_factor, s,
                [&](size_t i, const OptimParam& param, const torch::Tensor& grad, auto zero,
                    int64_t begin, int64_t end) {
                  using T = decltype(zero);
                  kernels::adamw(param.master.data_ptr<T>(), grad.data_ptr<T>(),
                                 exp_avg_[i].data_ptr<T>(), exp_avg_sq_[i].data_ptr<T>(),
                                 bf16_copy(param), begin, end, s);
                });
  }

  std::map<std::string, std::vector<torch::Tensor>> state() override {
    return {{"exp_avg", exp_avg_}, {"exp_avg_sq", exp_avg_sq_}};
  }

 private:
  OptimOptions options_;
  std::vector<torch::Tensor> exp_avg_, exp_avg_sq_;
};

class Sgd final : public Optimizer {
 public:
  Sgd(const OptimOptions& options, std::vector<OptimParam> params)
      : Optimizer(std::move(params)), options_(options) {
    if (options_.momentum == 0) return;
    for (const auto& param : params_) momentum_.push_back(torch::zeros_like(param.master));
  }

  void step(const std::vector<torch::Tensor>& grads, double lr_factor, double grad_scale) override {
    kernels::SgdScalars s{};
    s.momentum = options_.momentum;
    s.grad_scale = grad_scale;
    s.first = steps_ == 0;
    ++steps_;
    update_each(params_, grads, lr_factor, s,
                [&](size_t i, const OptimParam& param, const torch::Tensor& grad, auto zero,
                    int64_t begin, int64_t end) {
                  using T = decltype(zero);
                  kernels::sgd(param.master.data_ptr<T>(), grad.data_ptr<T>(),
                               momentum_.empty() ? nullptr : momentum_[i].data_ptr<T>(),
                               bf16_copy(param), begin, end, s);
                });
  }

  std::map<std::string, std::vector<torch::Tensor>> state() override {
    if (momentum_.empty()) return {};
    return {{"momentum", momentum_}};
  }

 private:
  OptimOptions options_;
  std::vector<torch::Tensor> momentum_;
};

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimOptions& options,
                                          std::vector<OptimParam> params) {
  if (options.name == "adamw") return std::make_unique<AdamW>(options, std::move(params));
  VEOMNI_CHECK_CONFIG(options.name == "sgd",
                      unknown_name_message("optimizer", options.name, {"adamw", "sgd"}));
  return std::make_unique<Sgd>(options, std::move(params));
}

void apply_groups(const OptimOptions& options, bool is_norm_or_bias, OptimParam& param) {
  param.lr = options.lr;
  param.weight_decay = is_norm_or_bias && !options.decay_norms ? 0.0 : options.weight_decay;
  for (const auto& group : options.groups) {
    if (!matches_pattern(param.name, group.pattern)) continue;
    if (group.lr) param.lr = *group.lr;
    if (group.weight_decay) param.weight_decay = *group.weight_decay;
  }
}

void check_options(const OptimOptions& options, const std::vector<std::string>& names) {
  VEOMNI_CHECK_CONFIG(options.betas.size() == 2 && options.betas[0] < 1 && options.betas[1] < 1,
                      "optim.betas must be two numbers below 1");
  for (const auto& group : options.groups) {
    bool matched = false;
    for (const auto& name : names) matched = matched || matches_pattern(name, group.pattern);
    if (matched) continue;
    const std::string nearest = nearest_name(group.pattern, names);
    throw_config_error("optim.groups: pattern '" + group.pattern + "' matches no parameter" +
                       (nearest.empty() ? "" : "; did you mean '" + nearest + "'?") +
                       (names.empty() ? "" : " (the first is " + names.front() + ")"));
  }
}

double lr_factor(const OptimOptions& options, int64_t step, int64_t total) {
  if (step < options.warmup_steps)
    return static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  const double span = static_cast<double>(std::max<int64_t>(1, total - 1 - options.warmup_steps));
  const double progress = std::min(1.0, static_cast<double>(step - options.warmup_steps) / span);
  if (options.schedule == "constant") return 1.0;
  const double fall = options.schedule == "linear"
                          ? 1.0 - progress
                          : 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return options.min_lr_ratio + (1.0 - options.min_lr_ratio) * fall;
}

}  // namespace veomni::optim
