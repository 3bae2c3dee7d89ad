// SPDX-License-Identifier: Apache-2.0
/// Seam 1 of 4. A part of a model that is sharded, recomputed, offloaded and profiled as a whole.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "veomni/nn/module.h"

namespace veomni::nn {

/// Usually one transformer layer. A unit's forward is `run(inputs, body)`; what a recipe attaches sees only that call.
///
/// Rules for a body:
///   - It may run again in backward: captures are by value and hold no tensor that needs a gradient.
///   - It reads no parameter outside the unit, and no op on one of the unit's parameters is recorded outside the body.
///   - Outputs of a unit are never modified in place.
/// Units may nest (a parameter belongs to its nearest enclosing Unit) and be used twice.
class Unit : public Module {
 public:
  using Tensors = std::vector<torch::Tensor>;
  using Body = std::function<Tensors(const Tensors&)>;

  /// Outermost first; the order is part of the contract.
  enum class Stage { kProfile, kShard, kOffload, kRecompute };
  static constexpr int kNumStages = 4;

  /// Wraps a unit's forward. `next` may be called now, and again in backward.
  class Interceptor {
   public:
    virtual ~Interceptor() = default;
    virtual Tensors call(Unit& unit, Tensors inputs, const Body& next) = 0;
  };

  /// The dotted path of the unit; set by assign_names.
  const std::string& name() const { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }

  /// Attaches an interceptor. @throws veomni::Error if the stage is taken. nullptr detaches.
  void intercept(Stage stage, std::shared_ptr<Interceptor> interceptor);
  Interceptor* interceptor(Stage stage) const {
    return interceptors_[static_cast<int>(stage)].get();
  }

  /// Parameters that belong to this unit: its subtree without the subtrees of nested units; each once.
  std::vector<Parameter> unit_parameters();

 protected:
  /// inputs: every tensor that may need a gradient (hidden states, conditioning); integer ids are captured.
  /// results: everything that leaves with one. Undefined tensors among inputs pass through.
  Tensors run(Tensors inputs, Body body);
  torch::Tensor run(torch::Tensor input, std::function<torch::Tensor(const torch::Tensor&)> body);

 private:
  Tensors call_from(int stage, Tensors inputs, const Body& body);

  std::string name_;
  std::array<std::shared_ptr<Interceptor>, kNumStages> interceptors_;
};

}  // namespace veomni::nn
