// SPDX-License-Identifier: Apache-2.0
/// In which order a pass gathers units, so that the next one can be started ahead.
#pragma once

#include <array>
#include <vector>

namespace veomni::parallel {

class UnitShards;

/// A pass begins with the first use of a unit and ends when no unit is in use: for a model with a root
/// unit one micro-batch, forward and backward. Passes with and without grad mode are learnt apart.
class GatherOrder {
 public:
  /// Around every use of a unit.
  void enter();
  void leave() noexcept;

  /// Fills the unit's values; then starts the gather of the unit that came next in the last pass. A
  /// unit that was started but does not come is freed, and nothing more is started in this pass: all
  /// ranks do the same, since all gather in the same order.
  void gather(UnitShards& unit);

 private:
  void discard_ahead();
  void start_next(const UnitShards& unit);

  std::array<std::vector<UnitShards*>, 2> learnt_;  // by grad mode
  std::vector<UnitShards*> seen_;
  UnitShards* ahead_ = nullptr;
  int uses_ = 0, mode_ = 0;
  bool following_ = false;
};

}  // namespace veomni::parallel
