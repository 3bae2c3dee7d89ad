// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/unit.h"

#include <set>

#include "veomni/base/error.h"

namespace veomni::nn {

void Unit::intercept(Stage stage, std::shared_ptr<Interceptor> interceptor) {
  auto& slot = interceptors_[static_cast<int>(stage)];
  VEOMNI_CHECK(!interceptor || !slot, "unit ", name_, ": stage ", static_cast<int>(stage),
               " already has an interceptor; detach it first");
  slot = std::move(interceptor);
}

std::vector<Parameter> Unit::unit_parameters() {
  // Modules inside a nested unit belong to it: find those first.
  std::set<Module*> nested;
  visit([&](const std::string&, Module& module) {
    if (&module == this || !dynamic_cast<Unit*>(&module)) return;
    module.visit([&](const std::string&, Module& below) { nested.insert(&below); });
  });
  std::vector<Parameter> parameters;
  std::set<const void*> seen;
  visit([&](const std::string&, Module& module) {
    if (nested.count(&module)) return;
    for (const auto& [name, parameter] : module.own_parameters()) {
      if (seen.insert(parameter.id()).second) parameters.push_back(parameter);
    }
  });
  return parameters;
}

Unit::Tensors Unit::run(Tensors inputs, Body body) { return call_from(0, std::move(inputs), body); }

torch::Tensor Unit::run(torch::Tensor input,
                        std::function<torch::Tensor(const torch::Tensor&)> body) {
  return run(Tensors{std::move(input)}, [body = std::move(body)](const Tensors& inputs) {
    return Tensors{body(inputs[0])};
  })[0];
}

Unit::Tensors Unit::call_from(int stage, Tensors inputs, const Body& body) {
  while (stage < kNumStages && !interceptors_[stage]) ++stage;
  if (stage == kNumStages) return body(inputs);
  // The rest of the chain owns a copy of the body: recompute keeps it until backward.
  Body next = [this, stage, body](const Tensors& passed) {
    return call_from(stage + 1, passed, body);
  };
  return interceptors_[stage]->call(*this, std::move(inputs), next);
}

}  // namespace veomni::nn
