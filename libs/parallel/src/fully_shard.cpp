// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/fully_shard.h"

#include <limits>
#include <map>
#include <set>
#include <utility>

#include "bracket.h"
#include "unit_shards.h"
#include "veomni/base/error.h"
#include "veomni/comm/local.h"

namespace veomni::parallel {

namespace {

using nn::Unit;

/// One use of a unit: what it holds gathered. Dies with the graph, so that a graph that never goes
/// backward (evaluation under grad mode, an exception) leaves nothing behind.
class Use final : public Bracket {
 public:
  explicit Use(std::shared_ptr<UnitShards> shards) : shards_(std::move(shards)) {}
  ~Use() override {
    expect_no_backward();
    release();
  }

  void acquire() {
    if (held_) return;
    held_ = true;
    try {
      shards_->state().order.enter();
      shards_->gather();
    } catch (...) {
      held_ = false;
      shards_->state().order.leave();
      throw;
    }
  }
  void release() {
    if (!std::exchange(held_, false)) return;
    shards_->drop();
    shards_->state().order.leave();
  }
  void expect_backward() {
    shards_->begin_use();
    expected_ = true;
  }
  void before_backward() override {
    acquire();
    shards_->begin_backward();
  }
  void after_backward() override {
    expect_no_backward();
    shards_->end_backward();
    shards_->keep_or_stop_keeping();
    release();
  }

 private:
  void expect_no_backward() {
    if (std::exchange(expected_, false)) shards_->end_use();
  }

  std::shared_ptr<UnitShards> shards_;
  bool held_ = false, expected_ = false;
};

class ShardInterceptor final : public Unit::Interceptor {
 public:
  ShardInterceptor(std::shared_ptr<UnitShards> shards, bool reshard)
      : shards_(std::move(shards)), reshard_(reshard) {}

  Unit::Tensors call(Unit&, Unit::Tensors inputs, const Unit::Body& next) override {
    auto use = std::make_shared<Use>(shards_);
    use->acquire();
    if (!torch::GradMode::is_enabled() ||
        !(shards_->anything_trains() || any_requires_grad(inputs))) {
      return next(inputs);
    }
    use->expect_backward();
    auto results = run_bracketed(inputs, next, use);
    if (reshard_) use->release();
    return results;
  }

 private:
  std::shared_ptr<UnitShards> shards_;
  bool reshard_;
};

/// Every element lies in one part that counts (replica 0); the others leave room below every number, so
/// that the maximum over ranks is the tensor, bit by bit.
torch::Tensor gather_parts(const nn::Parameter& parameter, torch::Tensor local,
                           Communicator& group) {
  torch::NoGradGuard no_grad;
  const auto wide = nn::wide_dtype(parameter.dtype());
  local = local.defined() ? local.detach()
                          : torch::zeros(parameter.shard().local_shape(), torch::dtype(wide));
  if (!is_sharded(parameter)) return local.to(wide, /*non_blocking=*/false, /*copy=*/true);
  auto full = torch::full({parameter.numel()}, -std::numeric_limits<double>::infinity(),
                          local.options().dtype(wide));
  if (parameter.replica() == 0) {
    const auto flat = local.reshape({-1});
    for (const auto& run : io::element_runs(parameter.shard()))
      full.narrow(0, run.full_begin, run.length).copy_(flat.narrow(0, run.local_begin, run.length));
  }
  group.all_reduce(full, full, ReduceOp::kMax)->wait();
  return full.view(parameter.shape());
}

}  // namespace

ShardGroups ShardGroups::over(const std::shared_ptr<Communicator>& group) {
  return {group, make_single_communicator(), group};
}

void shard_unit(Unit& unit, const ShardGroups& groups, const FullyShardOptions& options,
                std::shared_ptr<StepState> state) {
  auto shards = std::make_shared<UnitShards>(unit, groups, options, std::move(state));
  unit.intercept(Unit::Stage::kShard,
                 std::make_shared<ShardInterceptor>(shards, options.reshard_after_forward));
}

void check_units_own_parameters(nn::Module& root) {
  std::map<const void*, std::string> owner;
  for (auto& [path, unit] : nn::find_modules<Unit>(root)) {
    for (const auto& parameter : unit->unit_parameters()) {
      const auto [found, fresh] = owner.emplace(parameter.id(), path);
      VEOMNI_CHECK_CONFIG(fresh, "parameter ", parameter.name(), " is in two units, '",
                          found->second, "' and '", path, "'; tied weights must be in one unit");
    }
  }
  for (const auto& [path, parameter] : root.named_parameters()) {
    VEOMNI_CHECK_CONFIG(owner.count(parameter.id()), "parameter ", path,
                        " is in no Unit, so nothing could gather it");
  }
}

std::shared_ptr<StepState> fully_shard(nn::Module& root, const ShardGroups& groups,
                                       const FullyShardOptions& options) {
  check_units_own_parameters(root);
  std::set<nn::Module*> inside;
  auto state = make_step_state();
  for (auto& [path, unit] : nn::find_modules<Unit>(root)) {
    auto own = options;
    if (!inside.count(unit)) own.reshard_after_forward = false;
    unit->visit([&, self = unit](const std::string&, nn::Module& below) {
      if (&below != self) inside.insert(&below);
    });
    shard_unit(*unit, groups, own, state);
  }
  return state;
}

bool is_sharded(const nn::Parameter& parameter) { return parameter.shard().is_sharded(); }

torch::Tensor full_gradient(const nn::Parameter& parameter, Communicator& group) {
  return gather_parts(parameter, parameter.grad(), group);
}

torch::Tensor full_master(const nn::Parameter& parameter, Communicator& group) {
  return gather_parts(parameter,
                      parameter.master().defined() ? parameter.master() : parameter.local(), group);
}

}  // namespace veomni::parallel
