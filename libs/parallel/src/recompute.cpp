// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/recompute.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>

#include "bracket.h"
#include "veomni/base/error.h"
#include "veomni/base/trace.h"

namespace veomni::parallel {

namespace {

namespace autograd = torch::autograd;
using Tensors = nn::Unit::Tensors;

/// Runs the body again on detached inputs and goes backward through it at once (reentrant).
struct Recompute final : autograd::Node {
  std::vector<autograd::SavedVariable> inputs;
  nn::Unit::Body body;
  const char* unit = "";               ///< its path, for a profile
  std::vector<size_t> linked_outputs;  ///< indices among the body's results
  size_t num_outputs = 0;

  autograd::variable_list apply(autograd::variable_list&& gradients) override;
  void release_variables() override {
    inputs.clear();
    body = nullptr;
  }
  std::string name() const override { return "UnitRecompute"; }
};

autograd::variable_list Recompute::apply(autograd::variable_list&& gradients) {
  VEOMNI_CHECK(body, "a recomputed unit went backward a second time; its inputs are gone");
  Tensors detached;
  for (auto& input : inputs) {
    auto tensor = input.unpack();
    if (!tensor.defined()) {
      detached.push_back(tensor);
      continue;
    }
    detached.push_back(tensor.detach());
    detached.back().set_requires_grad(tensor.requires_grad());
  }
  Tensors results;
  {
    const trace::Span span(trace::Category::kUnit, unit, "recompute");
    autograd::AutoGradMode enable(true);
    results = body(detached);
  }
  VEOMNI_CHECK(results.size() == num_outputs, "a recomputed unit returned ", results.size(),
               " tensors, at first ", num_outputs);
  autograd::variable_list roots, root_gradients;
  for (size_t i = 0; i < linked_outputs.size(); ++i) {
    const auto& result = results[linked_outputs[i]];
    if (!result.requires_grad()) continue;
    roots.push_back(result);
    root_gradients.push_back(gradients[i].defined() ? gradients[i] : at::zeros_like(result));
  }
  results.clear();
  if (!roots.empty()) autograd::backward(roots, root_gradients);

  autograd::variable_list to_inputs;
  for (const auto& input : detached) {
    if (input.defined() && input.requires_grad()) to_inputs.push_back(input.grad());
  }
  to_inputs.emplace_back();  // the anchor's
  return to_inputs;
}

class RecomputeInterceptor final : public nn::Unit::Interceptor {
 public:
  explicit RecomputeInterceptor(nn::Unit& unit) : name_(trace::intern(unit.name())) {
    for (auto& [path, parameter] : unit.named_parameters()) parameters_.push_back(parameter);
  }

  Tensors call(nn::Unit&, Tensors inputs, const nn::Unit::Body& next) override {
    const bool trains = std::any_of(parameters_.begin(), parameters_.end(),
                                    [](const nn::Parameter& p) { return p.trainable(); });
    if (!autograd::GradMode::is_enabled() || !(trains || any_requires_grad(inputs)))
      return next(inputs);
    Tensors results;
    {
      torch::NoGradGuard no_grad;
      results = next(inputs);
    }
    auto node = c10::make_intrusive<Recompute>();
    autograd::variable_list linked;
    for (const auto& input : inputs) {
      node->inputs.emplace_back(input, /*is_output=*/false);
      if (input.defined() && input.requires_grad()) linked.push_back(input);
    }
    // Without it nothing would be recorded for a body that takes only ids or pixels.
    linked.push_back(make_anchor());
    node->set_next_edges(autograd::collect_next_edges(linked));
    node->body = next;
    node->unit = name_;
    node->num_outputs = results.size();
    for (size_t i = 0; i < results.size(); ++i) {
      if (!is_differentiable(results[i])) continue;
      results[i] = results[i].detach();
      autograd::set_history(results[i], node);
      node->linked_outputs.push_back(i);
    }
    return results;
  }

 private:
  const char* name_;
  std::vector<nn::Parameter> parameters_;  ///< of the unit and all units inside
};

}  // namespace

void recompute_unit(nn::Unit& unit) {
  unit.intercept(nn::Unit::Stage::kRecompute, std::make_shared<RecomputeInterceptor>(unit));
}

}  // namespace veomni::parallel
