// SPDX-License-Identifier: Apache-2.0
#include "bracket.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>

namespace veomni::parallel {

namespace {

namespace autograd = torch::autograd;
using Tensors = nn::Unit::Tensors;

/// Passes gradients through. Its inputs are the linked ones and the anchor; its outputs are as
/// many.
struct Enter final : autograd::Node {
  std::shared_ptr<Bracket> bracket;
  autograd::variable_list apply(autograd::variable_list&& gradients) override {
    bracket->after_backward();
    return std::move(gradients);
  }
  void release_variables() override { bracket.reset(); }
  std::string name() const override { return "UnitEnter"; }
};

/// One output per linked tensor; one input per linked tensor and the anchor, whose edge makes Enter
/// run last.
struct Exit final : autograd::Node {
  std::shared_ptr<Bracket> bracket;
  autograd::variable_list apply(autograd::variable_list&& gradients) override {
    bracket->before_backward();
    gradients.emplace_back();
    return std::move(gradients);
  }
  void release_variables() override { bracket.reset(); }
  std::string name() const override { return "UnitExit"; }
};

}  // namespace

torch::Tensor make_anchor() {
  return torch::empty({0}, torch::dtype(torch::kFloat)).set_requires_grad(true);
}

bool is_differentiable(const torch::Tensor& tensor) {
  return tensor.defined() && (tensor.is_floating_point() || tensor.is_complex());
}

bool any_requires_grad(const Tensors& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const torch::Tensor& t) { return t.defined() && t.requires_grad(); });
}

Tensors run_bracketed(const Tensors& inputs, const nn::Unit::Body& body,
                      const std::shared_ptr<Bracket>& bracket) {
  // Only inputs that need a gradient are linked: the others (pixels) must not seem to need one
  // inside the body.
  autograd::variable_list linked;
  for (const auto& input : inputs) {
    if (input.defined() && input.requires_grad()) linked.push_back(input);
  }
  auto anchor = make_anchor();
  linked.push_back(anchor);
  auto enter = c10::make_intrusive<Enter>();
  enter->bracket = bracket;
  enter->set_next_edges(autograd::collect_next_edges(linked));
  Tensors passed;
  for (const auto& input : inputs) {
    passed.push_back(input);
    if (!input.defined() || !input.requires_grad()) continue;
    passed.back() = input.detach();
    autograd::set_history(passed.back(), enter);
  }
  auto entered_anchor = anchor.detach();
  autograd::set_history(entered_anchor, enter);

  Tensors results = body(passed);

  autograd::variable_list leaving;
  for (const auto& result : results) {
    if (is_differentiable(result)) leaving.push_back(result);
  }
  leaving.push_back(entered_anchor);
  auto exit = c10::make_intrusive<Exit>();
  exit->bracket = bracket;
  exit->set_next_edges(autograd::collect_next_edges(leaving));
  for (auto& result : results) {
    if (!is_differentiable(result)) continue;
    result = result.detach();
    autograd::set_history(result, exit);
  }
  return results;
}

}  // namespace veomni::parallel
