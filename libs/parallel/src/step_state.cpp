// SPDX-License-Identifier: Apache-2.0
#include "step_state.h"

#include <torch/csrc/autograd/engine.h>

#include <utility>

#include "unit_shards.h"
#include "veomni/base/error.h"

namespace veomni::parallel {

void Reduction::finish() {
  for (auto& work : works) work->wait();
  store();
}

void StepState::begin_backward() {
  if (std::exchange(in_backward_, true)) return;
  // The first unit to go backward is the outermost, so the callback belongs to the whole pass and not
  // to a backward inside it (recompute).
  torch::autograd::Engine::get_default_engine().queue_callback(
      [self = shared_from_this()] { self->finish_backward(); });
}

void StepState::set_pending(Reduction reduction) {
  VEOMNI_DCHECK(pending_.empty());
  pending_.push_back(std::move(reduction));
}

void StepState::push_replica_sum(Reduction reduction) {
  ++stats.num_replica_sums;
  replica_sums_.push_back(std::move(reduction));
}

void StepState::finish_unit(const UnitShards* unit) {
  if (!pending_.empty() && pending_[0].unit == unit) finish_pending();
}

void StepState::finish_pending() {
  if (pending_.empty()) return;
  auto reduction = std::move(pending_.back());
  pending_.pop_back();
  reduction.finish();
}

void StepState::finish_backward() {
  torch::NoGradGuard no_grad;
  in_backward_ = false;
  finish_pending();
  if (deferring) return;
  for (auto* unit : units_) unit->sum_deferred();
  finish_pending();
  stats.num_buckets += buckets.finish();
  for (auto& reduction : std::exchange(replica_sums_, {})) reduction.finish();
  for (auto* unit : units_) unit->stop_keeping();
}

std::shared_ptr<StepState> make_step_state() { return std::make_shared<StepState>(); }

const ShardStats& stats_of(const StepState& state) { return state.stats; }

DeferGradientSync::DeferGradientSync(std::shared_ptr<StepState> state) : state_(std::move(state)) {
  VEOMNI_CHECK(!state_->deferring, "DeferGradientSync: another one is alive for this model");
  state_->deferring = true;
}

DeferGradientSync::~DeferGradientSync() { state_->deferring = false; }

}  // namespace veomni::parallel
