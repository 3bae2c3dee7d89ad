// SPDX-License-Identifier: Apache-2.0
// The tables of a profile as text.
#include <fmt/format.h>

#include <algorithm>

#include "profile/profile_table.h"

namespace veomni::train {

namespace {

constexpr size_t kTop = 15;

double per(double total, int64_t steps) { return steps ? total / static_cast<double>(steps) : 0; }
/// "24", "0.6667"
std::string calls_of(int64_t calls, int64_t steps) {
  return fmt::format("{:.4g}", per(static_cast<double>(calls), steps));
}
double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

PhaseTime phase_of(const ProfileTable& table, const char* name) {
  const auto found = table.phases.find(name);
  return found == table.phases.end() ? PhaseTime{} : found->second;
}

std::string phase_line(const std::string& name, const PhaseTime& p, const ProfileTable& table) {
  return fmt::format("{:<28}{:>10.2f}{:>8.1f}%{:>11.2f}{:>11.2f}{:>11.2f}\n", name,
                     per(p.ms, table.steps), percent(p.ms, table.step_ms),
                     per(p.ops_ms, table.steps), per(p.waiting_ms, table.steps),
                     per(p.rest_ms(), table.steps));
}

std::string describe_phases(const ProfileTable& table) {
  std::string text = fmt::format("{:<28}{:>10}{:>9}{:>11}{:>11}{:>11}\n", "phase", "ms a step",
                                 "share", "ops", "waiting", "rest");
  PhaseTime all;
  for (const char* name : kPhases) {
    const PhaseTime phase = phase_of(table, name);
    if (phase.ms == 0) continue;
    text += phase_line(name, phase, table);
    all.ms += phase.ms;
    all.ops_ms += phase.ops_ms;
    all.waiting_ms += phase.waiting_ms;
  }
  text += phase_line("between phases", {.ms = table.step_ms - all.ms}, table);
  all.ms = table.step_ms;
  return text + phase_line("step", all, table);
}

/// The entries of a map by falling time.
template <typename Time, typename Ms>
std::vector<std::pair<std::string, Time>> by_time(const std::map<std::string, Time>& times, Ms ms) {
  std::vector<std::pair<std::string, Time>> sorted(times.begin(), times.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const auto& a, const auto& b) { return ms(a.second) > ms(b.second); });
  return sorted;
}

std::string title(const char* what, size_t count, const char* plural) {
  return count > kTop ? fmt::format("{} (top {} of {} {})", what, kTop, count, plural)
                      : std::string(what);
}

std::string describe_ops(const ProfileTable& table) {
  auto ops = by_time(table.ops, [](const OpTime& op) { return op.ms; });
  std::string text = fmt::format("{:<34}{:>13}{:>12}{:>9}{:>12}\n", title("op", ops.size(), "ops"),
                                 "calls a step", "ms a step", "share", "GFLOP/s");
  ops.resize(std::min(ops.size(), kTop));
  for (const auto& [name, op] : ops) {
    const std::string rate =
        op.flops > 0 && op.ms > 0 ? fmt::format("{:.1f}", op.flops / op.ms / 1e6) : "-";
    text +=
        fmt::format("{:<34}{:>13}{:>12.2f}{:>8.1f}%{:>12}\n", name, calls_of(op.calls, table.steps),
                    per(op.ms, table.steps), percent(op.ms, table.step_ms), rate);
  }
  return text;
}

std::string describe_collectives(const ProfileTable& table) {
  std::string text = fmt::format("{:<28}{:>14}{:>14}{:>13}{:>16}\n", "collective", "calls a step",
                                 "MiB a step", "ms running", "ms waited for");
  for (const auto& [name, c] :
       by_time(table.collectives, [](const CollectiveTime& c) { return c.waiting_ms; })) {
    text += fmt::format("{:<28}{:>14}{:>14.3f}{:>13.2f}{:>16.2f}\n", name,
                        calls_of(c.calls, table.steps),
                        per(static_cast<double>(c.bytes), table.steps) / (1 << 20),
                        per(c.ms, table.steps), per(c.waiting_ms, table.steps));
  }
  return text;
}

std::string describe_units(const ProfileTable& table) {
  auto units = by_time(table.units, [](const UnitTime& unit) { return unit.ms(); });
  std::string text =
      fmt::format("{:<44}{:>13}{:>11}{:>12}{:>11}\n", title("unit", units.size(), "units"),
                  "calls a step", "forward", "recompute", "backward");
  units.resize(std::min(units.size(), kTop));
  for (const auto& [name, unit] : units) {
    text += fmt::format("{:<44}{:>13}{:>11.2f}{:>12.2f}{:>11.2f}\n", name,
                        calls_of(unit.passes, table.steps), per(unit.forward_ms, table.steps),
                        per(unit.recompute_ms, table.steps), per(unit.backward_ms, table.steps));
  }
  return text;
}

}  // namespace

std::string describe(const ProfileTable& table) {
  std::string text;
  if (table.num_dropped > 0) {
    text += fmt::format(
        "INCOMPLETE: {} spans did not fit ({} a thread and step do); the tables lack their "
        "time\n\n",
        table.num_dropped, trace::kCapacity);
  }
  text += describe_phases(table) + "\n" + describe_ops(table) + "\n";
  if (!table.collectives.empty()) text += describe_collectives(table) + "\n";
  return text + describe_units(table);
}

std::vector<double> rank_row(const ProfileTable& table) {
  std::vector<double> row = {per(table.step_ms, table.steps), per(table.waiting_ms(), table.steps),
                             per(table.step_ms - table.waiting_ms(), table.steps)};
  for (const char* name : kPhases) {
    const PhaseTime phase = phase_of(table, name);
    row.push_back(per(phase.ms - phase.waiting_ms, table.steps));
  }
  row.push_back(static_cast<double>(table.num_dropped));
  return row;
}

std::string describe_ranks(const std::vector<std::vector<double>>& rows) {
  std::vector<std::string> names = {"step", "waiting", "without waiting"};
  for (const char* name : kPhases) names.push_back(std::string("  ") + name);
  std::string text = fmt::format("{:<28}{:>10}{:>10}{:>10}{:>10}\n",
                                 fmt::format("{} ranks, ms a step", rows.size()), "min", "median",
                                 "max", "longest");
  for (size_t i = 0; i < names.size(); ++i) {
    std::vector<double> values;
    for (const auto& row : rows) values.push_back(row[i]);
    const auto longest = std::max_element(values.begin(), values.end()) - values.begin();
    if (values[longest] == 0) continue;
    std::sort(values.begin(), values.end());
    const size_t half = values.size() / 2;
    const double median = values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
    text += fmt::format("{:<28}{:>10.2f}{:>10.2f}{:>10.2f}{:>10}\n", names[i], values.front(),
                        median, values.back(), fmt::format("rank {}", longest));
  }
  for (size_t rank = 0; rank < rows.size(); ++rank) {
    if (rows[rank].back() > 0)
      text += fmt::format("rank {} lacks {:.0f} spans that did not fit\n", rank, rows[rank].back());
  }
  return text;
}

}  // namespace veomni::train
