// SPDX-License-Identifier: Apache-2.0
#include "unit_shards.h"

#include <algorithm>
#include <map>

#include "veomni/base/error.h"
#include "veomni/comm/flight.h"

namespace veomni::parallel {

UnitShards::UnitShards(nn::Unit& unit, ShardGroups groups, const FullyShardOptions& options,
                       std::shared_ptr<StepState> state)
    : name_(unit.name()), groups_(std::move(groups)), options_(options), state_(std::move(state)) {
  make_blocks(unit);
  for (auto& [path, parameter] : unit.named_parameters()) subtree_.push_back(parameter);
  state_->add(this);
}

void UnitShards::make_blocks(nn::Unit& unit) {
  const int rank = groups_.shard->rank(), world = groups_.shard->size(),
            replica = groups_.replicate->rank();
  const bool sharded = world > 1 && options_.layout != Layout::kWhole;
  std::map<std::pair<torch::ScalarType, bool>, std::vector<nn::Parameter>> flat;
  for (auto& parameter : unit.unit_parameters()) {
    if (sharded && options_.layout == Layout::kFlat) {
      flat[{parameter.dtype(), parameter.trainable()}].push_back(parameter);
    } else if (sharded && !parameter.shape().empty()) {
      blocks_.emplace_back(parameter, rank, world, replica);
    } else {
      whole_.push_back({parameter, {}});
    }
  }
  for (const auto& [kind, parameters] : flat)
    blocks_.emplace_back(parameters, rank, world, replica);
}

bool UnitShards::anything_trains() const {
  return std::any_of(subtree_.begin(), subtree_.end(),
                     [](const nn::Parameter& p) { return p.trainable(); });
}

void UnitShards::gather() {
  if (live_ == 0 && blocks_.empty()) ++state_->stats.num_gathers;
  if (live_ == 0 && !blocks_.empty()) {
    try {
      state_->order.gather(*this);
    } catch (...) {
      free_values();
      throw;
    }
  }
  ++live_;
}

void UnitShards::drop() {
  if (--live_ == 0) free_values();
}

void UnitShards::start_gather() {
  const CallLabel label(name_);
  torch::NoGradGuard no_grad;
  auto& stats = state_->stats;
  std::vector<torch::Tensor> outs, ins;
  for (auto& block : blocks_) {
    block.allocate(*groups_.shard);
    gathered_bytes_ += block.full_bytes();
    stats.gathered_bytes += block.full_bytes();
    outs.push_back(block.full());
    ins.push_back(block.chunk());
  }
  ++stats.num_gathers;
  stats.peak_gathered_bytes = std::max(stats.peak_gathered_bytes, stats.gathered_bytes);
  if (!outs.empty())
    gathering_.push_back(groups_.shard->all_gather_coalesced(std::move(outs), std::move(ins)));
}

void UnitShards::finish_gather() {
  for (auto& work : gathering_) work->wait();
  gathering_.clear();
}

void UnitShards::free_values() {
  gathering_.clear();
  for (auto& block : blocks_) block.release();
  state_->stats.gathered_bytes -= gathered_bytes_;
  gathered_bytes_ = 0;
}

void UnitShards::begin_backward() {
  if (groups_.all->size() > 1) state_->begin_backward();
  if (in_backward_++ > 0 || groups_.all->size() == 1) return;
  state_->finish_unit(this);
  if (whole_deferred_) return;
  // Parameter::grad() of a whole parameter is value().grad(): what is summed already must not be
  // summed again.
  for (auto& entry : whole_) {
    entry.prior = entry.parameter.grad();
    entry.parameter.set_grad({});
  }
}

void UnitShards::end_backward() {
  const CallLabel label(name_);
  if (--in_backward_ > 0) return;
  torch::NoGradGuard no_grad;
  if (groups_.all->size() == 1) return fill_missing_gradients();
  // The unit before is waited for before this one's gradients are put together, so that only one
  // unit's are in buffers.
  state_->finish_pending();
  Reduction reduction{.unit = this};
  std::vector<std::function<void()>> stores;
  reduce_blocks(reduction, stores);
  whole_deferred_ = true;
  // A bucketed gradient is complete when no other use of the unit is to come.
  if (!state_->deferring && !(options_.bucketed && uses_ > 0)) sum_whole(reduction.works, stores);
  if (reduction.works.empty()) return;
  ++state_->stats.num_reduces;
  reduction.store = [stores = std::move(stores)] {
    for (const auto& store : stores) store();
  };
  state_->set_pending(std::move(reduction));
  if (options_.layout == Layout::kWhole) state_->finish_unit(this);
}

void UnitShards::fill_missing_gradients() {
  for (auto& entry : whole_) {
    auto& parameter = entry.parameter;
    if (!parameter.trainable() || parameter.grad().defined()) continue;
    parameter.set_grad(torch::zeros(
        parameter.shape(),
        parameter.value().options().requires_grad(false).dtype(nn::wide_dtype(parameter.dtype()))));
  }
}

torch::ScalarType UnitShards::travel_dtype(torch::ScalarType sum_dtype) const {
  return options_.reduce_dtype == torch::ScalarType::Undefined ? sum_dtype : options_.reduce_dtype;
}

void UnitShards::reduce_blocks(Reduction& reduction, std::vector<std::function<void()>>& stores) {
  auto& ins = reduction.inputs;
  std::vector<torch::Tensor> outs;
  for (auto& block : blocks_) {
    if (!block.trains()) continue;
    ins.push_back(block.take_gradients(travel_dtype(block.gradient_dtype()), *groups_.shard));
    outs.push_back(
        torch::empty({block.chunk_numel()}, ins.back().options().dtype(block.gradient_dtype())));
    stores.push_back([this, &block, sums = outs.back(), last = !state_->deferring] {
      store_block(block, sums, last);
    });
  }
  if (!outs.empty())
    reduction.works.push_back(groups_.shard->reduce_scatter_coalesced(outs, ins, ReduceOp::kSum));
}

void UnitShards::store_block(ParamBlock& block, torch::Tensor sums, bool last) {
  if (groups_.replicate->size() == 1) return block.add_to_gradients(sums);
  block.defer(std::move(sums));
  if (!last) return;
  const CallLabel label(name_);
  Reduction over_replicas{.unit = this};
  auto all = block.take_deferred();
  over_replicas.works.push_back(groups_.replicate->all_reduce(all, all, ReduceOp::kSum));
  over_replicas.store = [&block, all] { block.add_to_gradients(all); };
  state_->push_replica_sum(std::move(over_replicas));
}

/// Gradients of whole parameters since the last sum, removed from value(); zeros where none came.
std::vector<WholeGradient> UnitShards::take_whole() {
  std::vector<WholeGradient> taken;
  for (auto& entry : whole_) {
    if (!entry.parameter.trainable()) continue;
    WholeGradient whole{entry.parameter, std::exchange(entry.prior, {}), entry.parameter.grad()};
    entry.parameter.set_grad({});
    const auto dtype = travel_dtype(whole.sum_dtype());
    whole.gradient =
        whole.gradient.defined()
            ? whole.gradient.to(dtype).contiguous()
            : torch::zeros(entry.parameter.shape(),
                           entry.parameter.local().options().requires_grad(false).dtype(dtype));
    taken.push_back(std::move(whole));
  }
  return taken;
}

void UnitShards::sum_whole(std::vector<WorkPtr>& works,
                           std::vector<std::function<void()>>& stores) {
  whole_deferred_ = false;
  auto gradients = take_whole();
  if (options_.bucketed && options_.layout == Layout::kWhole) {
    for (auto& whole : gradients)
      state_->buckets.add(groups_.all, options_.bucket_bytes, std::move(whole));
    return;
  }
  auto sums = start_sums(gradients, *groups_.all, works);
  stores.push_back([gradients = std::move(gradients), sums = std::move(sums)]() mutable {
    for (size_t i = 0; i < sums.size(); ++i) gradients[i].store(sums[i]);
  });
}

void UnitShards::sum_deferred() {
  for (auto& block : blocks_) {
    if (auto sums = block.take_deferred(); sums.defined())
      store_block(block, std::move(sums), true);
  }
  if (!whole_deferred_) return;
  Reduction reduction{.unit = this};
  std::vector<std::function<void()>> stores;
  sum_whole(reduction.works, stores);
  reduction.store = [stores = std::move(stores)] {
    for (const auto& store : stores) store();
  };
  reduction.finish();
}

void UnitShards::keep_or_stop_keeping() {
  if (!state_->deferring) return stop_keeping();
  if (options_.reshard_after_backward || kept_ || blocks_.empty()) return;
  kept_ = true;
  ++live_;
}

void UnitShards::stop_keeping() {
  if (std::exchange(kept_, false)) drop();
}

}  // namespace veomni::parallel
