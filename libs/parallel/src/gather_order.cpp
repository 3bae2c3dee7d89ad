// SPDX-License-Identifier: Apache-2.0
#include "gather_order.h"

#include <torch/types.h>

#include <utility>

#include "unit_shards.h"

namespace veomni::parallel {

void GatherOrder::enter() {
  if (uses_++ > 0) return;
  // Left by a pass that ended early; its parameters may have been updated since.
  discard_ahead();
  mode_ = torch::GradMode::is_enabled() ? 1 : 0;
  following_ = true;
  seen_.clear();
}

void GatherOrder::leave() noexcept {
  if (--uses_ > 0) return;
  // A gather that was started and never came is left to the next pass: this may run in a destructor,
  // which must not communicate.
  if (!seen_.empty()) learnt_[mode_].swap(seen_);
}

void GatherOrder::discard_ahead() {
  if (auto* missed = std::exchange(ahead_, nullptr)) {
    missed->finish_gather();
    missed->free_values();
  }
}

void GatherOrder::gather(UnitShards& unit) {
  if (ahead_ && ahead_ != &unit) {
    discard_ahead();
    following_ = false;
  }
  if (!std::exchange(ahead_, nullptr)) unit.start_gather();
  unit.finish_gather();
  seen_.push_back(&unit);
  start_next(unit);
}

void GatherOrder::start_next(const UnitShards& unit) {
  const auto& learnt = learnt_[mode_];
  const size_t at = seen_.size();
  following_ = following_ && at < learnt.size() && learnt[at - 1] == &unit;
  if (!following_) return;
  UnitShards* next = learnt[at];
  // One that is still in memory will be freed first: its turn comes without a head start.
  if (next == &unit || next->is_gathered() || !next->prefetch()) return;
  next->start_gather();
  next->count_prefetch();
  ahead_ = next;
}

}  // namespace veomni::parallel
