// SPDX-License-Identifier: Apache-2.0
/// Optimizers on plain tensors: (master, gradient, compute copy) in, both copies written in one pass. No communication.
#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "veomni/base/fields.h"

namespace veomni::optim {

/// What one group of parameters overrides.
struct GroupOptions {
  std::string pattern;       ///< module path with *, e.g. "foundation.layers.*"
  std::optional<double> lr;  ///< peak learning rate of this group
  std::optional<double> weight_decay;
};

template <typename Visitor> void visit_fields(Visitor& v, GroupOptions& o) {
  v("pattern", o.pattern, "parameters whose path matches (* stands for any run of characters)");
  v("lr", o.lr, "peak learning rate of the group; the schedule multiplies it", at_least(0));
  v("weight_decay", o.weight_decay, "decoupled weight decay of the group", at_least(0));
}

struct OptimOptions {
  std::string name = "adamw";
  double lr = 1e-4;
  std::vector<double> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.0;
  bool decay_norms = false;  ///< weight decay on norm weights and biases too
  double momentum = 0.0;
  double clip = 1.0;
  std::string schedule = "cosine";
  int64_t warmup_steps = 0;
  double min_lr_ratio = 0.0;
  std::vector<GroupOptions> groups;
};

template <typename Visitor> void visit_fields(Visitor& v, OptimOptions& o) {
  v("name", o.name, "update rule", one_of({"adamw", "sgd"}));
  v("lr", o.lr, "peak learning rate", at_least(0));
  v("betas", o.betas, "AdamW: decay of the first and second moment", between(0, 1));
  v("eps", o.eps, "AdamW: added to the root of the second moment", at_least(0));
  v("weight_decay", o.weight_decay, "decoupled weight decay", at_least(0));
  v("decay_norms", o.decay_norms, "apply weight decay to norm weights and biases too");
  v("momentum", o.momentum, "SGD: momentum", between(0, 1));
  v("clip", o.clip, "largest global gradient norm; 0 turns clipping off", at_least(0));
  v("schedule", o.schedule, "shape of the learning rate after warm-up",
    one_of({"constant", "linear", "cosine"}));
  v("warmup_steps", o.warmup_steps, "steps of linear warm-up from 0", at_least(0));
  v("min_lr_ratio", o.min_lr_ratio, "the schedule's floor as a share of the peak", between(0, 1));
  v("groups", o.groups, "overrides by parameter path; the last match wins");
}

/// One tensor to optimise. `compute` aliases `master` when the dtypes are equal.
struct OptimParam {
  std::string name;
  torch::Tensor master;   ///< contiguous, fp32 or fp64
  torch::Tensor compute;  ///< contiguous, the same shape, the compute dtype
  double lr = 0;          ///< peak learning rate
  double weight_decay = 0;
};

/// AdamW (Loshchilov & Hutter 2019, algorithm 2) or SGD with momentum, PyTorch's formulas.
///
/// step(): for every parameter with a defined gradient,  g = gradient * grad_scale,  then the rule with
/// lr * lr_factor, in the master's dtype; the result is cast into `compute` in the same pass. A parameter without a
/// gradient is left alone (as PyTorch does).
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// @param grads      one per parameter, in order; undefined means none; dtype of the master
  /// @param lr_factor  the schedule's value of this step
  /// @param grad_scale clipping's coefficient
  virtual void step(const std::vector<torch::Tensor>& grads, double lr_factor,
                    double grad_scale) = 0;

  const std::vector<OptimParam>& params() const { return params_; }
  /// The state by kind ("exp_avg", "exp_avg_sq", "momentum"): one tensor a parameter, shaped as its master.
  virtual std::map<std::string, std::vector<torch::Tensor>> state() = 0;
  /// Steps taken: AdamW's bias correction depends on it. Saved and restored with the state.
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 protected:
  explicit Optimizer(std::vector<OptimParam> params) : params_(std::move(params)) {}
  std::vector<OptimParam> params_;
  int64_t steps_ = 0;
};

std::unique_ptr<Optimizer> make_optimizer(const OptimOptions& options,
                                          std::vector<OptimParam> params);

/// lr and weight decay of a parameter: the options, then the last matching group.
/// @param is_norm_or_bias  excluded from weight decay unless decay_norms or a group says otherwise
void apply_groups(const OptimOptions& options, bool is_norm_or_bias, OptimParam& param);

/// @throws ConfigError if a group's pattern matches none of `names`, or betas are not two numbers below 1.
void check_options(const OptimOptions& options, const std::vector<std::string>& names);

/// The factor on the peak learning rate of update number `step` (0-based) of `total`: linear from 1/warmup to 1 over
/// warmup_steps, then constant, linear or half a cosine down to min_lr_ratio at the last step.
double lr_factor(const OptimOptions& options, int64_t step, int64_t total);

}  // namespace veomni::optim
