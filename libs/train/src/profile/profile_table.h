// SPDX-License-Identifier: Apache-2.0
/// Where the time of profiled steps went, on one rank and over all.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "veomni/base/trace.h"

namespace veomni::train {

/// What Trainer::step does, in order. No two overlap.
inline constexpr std::array kPhases = {"data",     "count",  "codebook", "forward",
                                       "backward", "losses", "clip",     "optimizer"};

struct PhaseTime {
  double ms = 0;          ///< of it:
  double ops_ms = 0;      ///< in ops of libs/ops
  double waiting_ms = 0;  ///< the rank's own thread waiting for collectives
  double rest_ms() const { return ms - ops_ms - waiting_ms; }
};
struct OpTime {
  int64_t calls = 0;
  double ms = 0;
  double flops = 0;  ///< 0: memory-bound, not counted
};
struct CollectiveTime {
  int64_t calls = 0, bytes = 0;  ///< bytes: of this rank's inputs
  double ms = 0;                 ///< from its start to its end, on whichever thread
  double waiting_ms = 0;
};
struct UnitTime {
  int64_t passes = 0;  ///< forwards
  double forward_ms = 0, recompute_ms = 0, backward_ms = 0;
  double ms() const { return forward_ms + recompute_ms + backward_ms; }
};

/// Sums over the spans of one rank.
struct ProfileTable {
  int64_t steps = 0;
  double step_ms = 0;
  int64_t num_dropped = 0;
  std::map<std::string, PhaseTime> phases;  ///< by kPhases
  std::map<std::string, OpTime> ops;        ///< "linear forward"; a kernel outside any op: its own name
  std::map<std::string, CollectiveTime> collectives;
  /// Units nest: an outer one's times include the inner ones'.
  std::map<std::string, UnitTime> units;

  /// Spans of a thread must nest; their order does not matter.
  void add(const std::vector<trace::ThreadEvents>& threads);

  double waiting_ms() const;
};

/// The tables of one rank: phases, top 15 ops, collectives, top 15 units.
std::string describe(const ProfileTable& table);

/// What ranks tell one another: ms a step by kRankRows.
std::vector<double> rank_row(const ProfileTable& table);
/// min, median, max over the ranks and whose is longest. @param rows  rank_row of every rank
std::string describe_ranks(const std::vector<std::vector<double>>& rows);

}  // namespace veomni::train
