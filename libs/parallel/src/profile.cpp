// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/profile.h"

#include <torch/types.h>

#include <algorithm>
#include <utility>

#include "bracket.h"
#include "veomni/base/trace.h"
#include "veomni/nn/unit.h"

namespace veomni::parallel {

namespace {

using nn::Unit;

/// Begins in one node and ends in another, so it is no scope.
class BackwardSpan final : public Bracket {
 public:
  explicit BackwardSpan(const char* unit) : unit_(unit) {}
  void before_backward() override { begin_ns_ = trace::now_ns(); }
  void after_backward() override {
    trace::record({.begin_ns = begin_ns_,
                   .end_ns = trace::now_ns(),
                   .name = unit_,
                   .pass = "backward",
                   .category = trace::Category::kUnit});
  }

 private:
  const char* unit_;
  int64_t begin_ns_ = 0;
};

class ProfileInterceptor final : public Unit::Interceptor {
 public:
  explicit ProfileInterceptor(Unit& unit)
      : name_(unit.name().empty() ? "model" : trace::intern(unit.name())) {
    for (auto& [path, parameter] : unit.named_parameters()) parameters_.push_back(parameter);
  }

  Unit::Tensors call(Unit&, Unit::Tensors inputs, const Unit::Body& next) override {
    if (!trace::on()) return next(inputs);
    const trace::Span span(trace::Category::kUnit, name_, "forward");
    const bool trains = std::any_of(parameters_.begin(), parameters_.end(),
                                    [](const nn::Parameter& p) { return p.trainable(); });
    // Where sharding puts no bracket, there is none here: one makes every output need a gradient.
    if (!torch::GradMode::is_enabled() || !(trains || any_requires_grad(inputs)))
      return next(inputs);
    return run_bracketed(inputs, next, std::make_shared<BackwardSpan>(name_));
  }

 private:
  const char* name_;
  std::vector<nn::Parameter> parameters_;  ///< of the unit and all units inside
};

}  // namespace

void profile_units(nn::Module& root) {
  for (auto& [path, unit] : nn::find_modules<Unit>(root))
    unit->intercept(Unit::Stage::kProfile, std::make_shared<ProfileInterceptor>(*unit));
}

}  // namespace veomni::parallel
