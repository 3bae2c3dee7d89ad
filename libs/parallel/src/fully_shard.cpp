// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/fully_shard.h"

#include <map>
#include <set>

#include "bracket.h"
#include "unit_shards.h"
#include "veomni/base/error.h"

namespace veomni::parallel {

namespace {

using nn::Unit;

/// One use of a unit: what it holds gathered. Dies with the graph, so that a graph that never goes
/// backward (evaluation under grad mode, an exception) leaves nothing behind.
class Use final : public Bracket {
 public:
  explicit Use(std::shared_ptr<UnitShards> shards) : shards_(std::move(shards)) {}
  ~Use() override { release(); }

  void acquire() {
    if (!held_) shards_->gather();
    held_ = true;
  }
  void release() {
    if (held_) shards_->drop();
    held_ = false;
  }
  void before_backward() override {
    acquire();
    shards_->begin_backward();
  }
  void after_backward() override {
    shards_->end_backward();
    release();
  }

 private:
  std::shared_ptr<UnitShards> shards_;
  bool held_ = false;
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
    auto results = run_bracketed(inputs, next, use);
    if (reshard_) use->release();
    return results;
  }

 private:
  std::shared_ptr<UnitShards> shards_;
  bool reshard_;
};

torch::Tensor gather_rows(const nn::Parameter& parameter, torch::Tensor rows, Communicator& group) {
  torch::NoGradGuard no_grad;
  const auto wide = nn::wide_dtype(parameter.dtype());
  rows = rows.defined() ? rows.detach()
                        : torch::zeros(parameter.shard().local_shape(), torch::dtype(wide));
  if (!is_sharded(parameter)) return rows.to(wide, /*non_blocking=*/false, /*copy=*/true);
  const auto& shape = parameter.shape();
  const int64_t row_numel = shape[0] ? parameter.numel() / shape[0] : 0;
  const int64_t chunk = (shape[0] + group.size() - 1) / group.size() * row_numel;
  auto all = torch::empty({chunk * group.size()}, rows.options().dtype(wide));
  auto mine = all.narrow(0, chunk * group.rank(), chunk);
  mine.narrow(0, 0, rows.numel()).copy_(rows.reshape({-1}));
  group.all_gather(all, mine)->wait();
  return all.narrow(0, 0, parameter.numel()).view(shape);
}

}  // namespace

void shard_unit(Unit& unit, std::shared_ptr<Communicator> group, const FullyShardOptions& options,
                std::shared_ptr<ShardStats> stats) {
  auto shards = std::make_shared<UnitShards>(unit, std::move(group), options, std::move(stats));
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

std::shared_ptr<ShardStats> fully_shard(nn::Module& root, std::shared_ptr<Communicator> group,
                                        const FullyShardOptions& options) {
  check_units_own_parameters(root);
  std::set<nn::Module*> inside;
  auto stats = std::make_shared<ShardStats>();
  for (auto& [path, unit] : nn::find_modules<Unit>(root)) {
    auto own = options;
    if (!inside.count(unit)) own.reshard_after_forward = false;
    unit->visit([&, self = unit](const std::string&, nn::Module& below) {
      if (&below != self) inside.insert(&below);
    });
    shard_unit(*unit, group, own, stats);
  }
  return stats;
}

bool is_sharded(const nn::Parameter& parameter) { return !parameter.shard().shards.empty(); }

torch::Tensor full_gradient(const nn::Parameter& parameter, Communicator& group) {
  return gather_rows(parameter, parameter.grad(), group);
}

torch::Tensor full_master(const nn::Parameter& parameter, Communicator& group) {
  return gather_rows(parameter,
                     parameter.master().defined() ? parameter.master() : parameter.local(), group);
}

}  // namespace veomni::parallel
