// SPDX-License-Identifier: Apache-2.0
#include "profile/profile_table.h"

#include <algorithm>
#include <string_view>

namespace veomni::train {

namespace {

using trace::Category;
using trace::Event;

double ms_of(const Event& event) {
  return static_cast<double>(event.end_ns - event.begin_ns) / 1e6;
}

std::string full_name(const Event& event) {
  return event.pass ? std::string(event.name) + " " + event.pass : event.name;
}

/// Outermost first. Of two that begin and end together the one that ended later is outside.
std::vector<Event> in_order(std::vector<Event> events) {
  std::reverse(events.begin(), events.end());
  std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    return a.begin_ns != b.begin_ns ? a.begin_ns < b.begin_ns : a.end_ns > b.end_ns;
  });
  return events;
}

/// The spans around the one at hand, outermost first.
class Around {
 public:
  void enter(const Event& event) {
    while (!open_.empty() && open_.back()->end_ns <= event.begin_ns) open_.pop_back();
  }
  void push(const Event& event) { open_.push_back(&event); }
  /// The innermost of a category, or null.
  const Event* find(Category category, std::string_view pass = {}) const {
    for (auto it = open_.rbegin(); it != open_.rend(); ++it) {
      const bool fits = pass.empty() || ((*it)->pass && pass == (*it)->pass);
      if ((*it)->category == category && fits) return *it;
    }
    return nullptr;
  }

 private:
  std::vector<const Event*> open_;
};

void add_unit(UnitTime& unit, const Event& event, const Around& around) {
  const std::string_view pass = event.pass ? event.pass : "";
  if (pass == "backward") {
    unit.backward_ms += ms_of(event);
  } else if (pass == "recompute" || around.find(Category::kUnit, "recompute")) {
    unit.recompute_ms += ms_of(event);
  } else {
    unit.forward_ms += ms_of(event);
    ++unit.passes;
  }
}

/// An op, or a kernel that belongs to none.
void add_op(ProfileTable& table, const Event& event, const Around& around) {
  if (const Event* op = around.find(Category::kOp)) {
    table.ops[full_name(*op)].flops += event.flops;
    return;
  }
  auto& op = table.ops[full_name(event)];
  ++op.calls;
  op.ms += ms_of(event);
  op.flops += event.flops;
  if (const Event* phase = around.find(Category::kPhase))
    table.phases[phase->name].ops_ms += ms_of(event);
}

void add_wait(ProfileTable& table, const Event& event, const Around& around) {
  std::string_view name = event.name;
  if (name.starts_with("wait ")) name.remove_prefix(5);
  table.collectives[std::string(name)].waiting_ms += ms_of(event);
  if (const Event* phase = around.find(Category::kPhase))
    table.phases[phase->name].waiting_ms += ms_of(event);
}

void add_event(ProfileTable& table, const Event& event, const Around& around) {
  switch (event.category) {
    case Category::kStep:
      ++table.steps;
      table.step_ms += ms_of(event);
      break;
    case Category::kPhase: table.phases[event.name].ms += ms_of(event); break;
    case Category::kUnit: add_unit(table.units[event.name], event, around); break;
    case Category::kOp:
    case Category::kKernel: add_op(table, event, around); break;
    case Category::kCollective: {
      auto& collective = table.collectives[event.name];
      ++collective.calls;
      collective.bytes += event.bytes;
      collective.ms += ms_of(event);
      break;
    }
    case Category::kWait: add_wait(table, event, around); break;
  }
}

}  // namespace

void ProfileTable::add(const std::vector<trace::ThreadEvents>& threads) {
  for (const auto& thread : threads) {
    num_dropped += thread.num_dropped;
    const auto events = in_order(thread.events);
    Around around;
    for (const auto& event : events) {
      around.enter(event);
      add_event(*this, event, around);
      around.push(event);
    }
  }
}

double ProfileTable::waiting_ms() const {
  double ms = 0;
  for (const auto& [name, phase] : phases) ms += phase.waiting_ms;
  return ms;
}

}  // namespace veomni::train
