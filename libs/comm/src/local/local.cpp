// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/local.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>

#include "call_communicator.h"
#include "fault.h"
#include "flight.h"
#include "local/execute.h"
#include "veomni/base/trace.h"
#include "veomni/comm/rank_scope.h"

namespace veomni {

namespace local {

using std::chrono::milliseconds;

/// What all groups of one job share. One mutex guards everything below; it is never held while
/// bytes move.
struct World {
  std::mutex mutex;
  std::condition_variable changed;
  std::string abort_reason;
  std::vector<bool> left;                        ///< by world rank: makes no more calls
  std::vector<std::unique_ptr<Flight>> flights;  ///< by world rank
  std::vector<int64_t> num_calls;                ///< by world rank, in all groups
  int num_executing = 0;                         ///< ranks that are moving bytes right now

  /// Requires the mutex.
  void abort(const std::string& reason) {
    if (abort_reason.empty()) abort_reason = reason.empty() ? "aborted" : reason;
    changed.notify_all();
  }
};

struct Group;

/// One collective of a group: filled by its ranks as they arrive.
struct Slot {
  explicit Slot(int64_t sequence, int size)
      : sequence(sequence), arrived(size, false), calls(size), signatures(size) {}
  Offer offer(int r) const { return {&signatures[r], calls[r].in_splits, calls[r].out_splits}; }
  int64_t sequence;
  std::vector<bool> arrived;
  std::vector<Call> calls;
  std::vector<Signature> signatures;
  int num_arrived = 0, num_finished = 0;
  int first = -1;                                ///< rank that arrived first
  std::map<int, std::shared_ptr<Group>> groups;  ///< of a split, by color
};

struct Group {
  std::shared_ptr<World> world;
  std::string name;
  std::vector<int> members;  ///< world ranks
  milliseconds timeout;
  std::map<int64_t, std::shared_ptr<Slot>> open;  ///< not all ranks have arrived
};

/// One rank's end of a group.
struct Member {
  std::shared_ptr<Group> group;
  int rank;
  int64_t next_sequence = 0;
  struct Pending {
    std::shared_ptr<Slot> slot;
    Flight::Ticket ticket;
  };
  std::deque<Pending> pending;  ///< called, this rank's part not yet done

  int size() const { return static_cast<int>(group->members.size()); }
  std::string label(const Slot& slot) const {
    return detail::concat(describe(slot.calls[rank]), " #", slot.sequence, " on '", group->name,
                          "'");
  }
  int world_rank() const { return group->members[rank]; }
  /// Null if a fault skips the call.
  std::shared_ptr<Slot> post(Call call);
  void complete(const std::shared_ptr<Slot>& slot, milliseconds timeout);

 private:
  void check_alive(const Slot* slot) const;
  bool suffers_skip(const Call& call);
  void check_agreement(Slot& slot);
  [[noreturn]] void fail_waiting(const Slot& slot, bool timed_out, milliseconds timeout);
  template <typename Ready>
  void await(std::unique_lock<std::mutex>& lock, Slot& slot, milliseconds timeout, Ready ready);
};

void Member::check_alive(const Slot* slot) const {
  const auto& reason = group->world->abort_reason;
  if (reason.empty()) return;
  throw AbortedError(thread_context().label +
                     (slot ? label(*slot) + " was aborted: " : "the job was aborted: ") + reason);
}

/// Compares with the first to arrive: a difference is seen when the second rank calls, not when the
/// last does.
void Member::check_agreement(Slot& slot) {
  for (int r = 0; r < size(); ++r) {
    if (!slot.arrived[r] || r == rank || agree(slot.offer(r), r, slot.offer(rank), rank)) continue;
    const std::string message =
        disagreement(group->name, slot.sequence, slot.offer(r), group->members[r], slot.offer(rank),
                     group->members[rank]);
    group->world->abort(message);
    throw_error(message);
  }
}

/// Lets the rank suffer what was injected. @return whether it skips the call
bool Member::suffers_skip(const Call& call) {
  if (call.operation == Operation::kSplit) return false;
  World& world = *group->world;
  const auto fault = fault_at(world_rank(), world.num_calls[world_rank()]++, false);
  if (!fault || *fault == FaultKind::kSkip) return fault.has_value();
  suffer(*fault, [&] {
    std::lock_guard lock(world.mutex);
    return !world.abort_reason.empty();
  });
  return false;
}

std::shared_ptr<Slot> Member::post(Call call) {
  World& world = *group->world;
  if (suffers_skip(call)) return nullptr;
  std::lock_guard lock(world.mutex);
  check_alive(nullptr);
  if (const std::string problem = problem_of(call, size()); !problem.empty()) {
    const std::string message =
        detail::concat(describe(call), " on '", group->name, "': ", problem);
    world.abort(rank_label(group->members[rank], static_cast<int>(world.left.size())) + message);
    throw_error(message);
  }
  const int64_t sequence = next_sequence++;
  auto& open = group->open[sequence];
  if (!open) open = std::make_shared<Slot>(sequence, size());
  auto slot = open;
  slot->signatures[rank] = sign(call);
  slot->calls[rank] = std::move(call);
  slot->arrived[rank] = true;
  ++slot->num_arrived;
  check_agreement(*slot);
  pending.push_back(
      {slot, world.flights[world_rank()]->record(slot->signatures[rank], group->name, sequence)});
  if (slot->num_arrived == size()) {
    group->open.erase(sequence);
    world.changed.notify_all();
  }
  return slot;
}

void Member::fail_waiting(const Slot& slot, bool timed_out, milliseconds timeout) {
  std::string missing;
  for (int r = 0; r < size(); ++r) {
    if (slot.arrived[r]) continue;
    missing += detail::concat(missing.empty() ? "" : ", ", group->members[r],
                              group->world->left[group->members[r]] ? " (has ended)" : "");
  }
  const std::string problem = timed_out
                                  ? detail::concat(" timed out after ", timeout.count(), " ms")
                                  : std::string(" cannot complete");
  const std::string message = label(slot) + problem +
                              (missing.empty() ? "; all ranks arrived but not all finished"
                                               : "; ranks that had not arrived: " + missing);
  group->world->abort(
      rank_label(group->members[rank], static_cast<int>(group->world->left.size())) + message);
  throw_error(message);
}

template <typename Ready>
void Member::await(std::unique_lock<std::mutex>& lock, Slot& slot, milliseconds timeout,
                   Ready ready) {
  World& world = *group->world;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!ready()) {
    if (!world.abort_reason.empty()) {
      // Peers may still be reading this rank's tensors, which die once it throws.
      world.changed.wait(lock, [&] { return world.num_executing == 0; });
      check_alive(&slot);
    }
    for (int r = 0; r < size(); ++r) {
      if (!slot.arrived[r] && world.left[group->members[r]]) fail_waiting(slot, false, timeout);
    }
    if (world.changed.wait_until(lock, deadline) == std::cv_status::timeout && !ready() &&
        world.abort_reason.empty()) {
      fail_waiting(slot, true, timeout);
    }
  }
}

/// Does this rank's part of every earlier call first: the ranks may wait for their works in
/// different orders.
void Member::complete(const std::shared_ptr<Slot>& target, milliseconds timeout) {
  if (timeout.count() == 0) timeout = group->timeout;
  std::unique_lock lock(group->world->mutex);
  while (!pending.empty() && pending.front().slot->sequence <= target->sequence) {
    const auto [slot, ticket] = pending.front();
    ticket.start(std::chrono::steady_clock::now() + timeout);
    await(lock, *slot, timeout, [&, &slot = slot] { return slot->num_arrived == size(); });
    check_alive(slot.get());
    ++group->world->num_executing;
    lock.unlock();
    execute(slot->calls, rank);
    lock.lock();
    --group->world->num_executing;
    ++slot->num_finished;
    ticket.end(false);
    pending.pop_front();
    group->world->changed.notify_all();
  }
  await(lock, *target, timeout, [&] { return target->num_finished == size(); });
  // Others may hold the slot for a while yet; it must not keep this rank's memory.
  target->calls[rank].outs.clear();
  target->calls[rank].ins.clear();
}

class LocalWork final : public Work {
 public:
  LocalWork(std::shared_ptr<Member> member, std::shared_ptr<Slot> slot)
      : member_(std::move(member)), slot_(std::move(slot)) {}

  void wait(milliseconds timeout) override {
    if (!slot_) return;
    const trace::Span span(trace::Category::kWait,
                           wait_name_of(slot_->signatures[member_->rank].operation));
    member_->complete(slot_, timeout);
    slot_.reset();
  }

 private:
  std::shared_ptr<Member> member_;
  std::shared_ptr<Slot> slot_;
};

class LocalCommunicator final : public CallCommunicator {
 public:
  LocalCommunicator(std::shared_ptr<Group> group, int rank) : member_(std::make_shared<Member>()) {
    member_->group = std::move(group);
    member_->rank = rank;
  }

  int rank() const override { return member_->rank; }
  int size() const override { return member_->size(); }
  const std::string& name() const override { return member_->group->name; }
  milliseconds timeout() const override { return member_->group->timeout; }

  std::shared_ptr<Communicator> split(int color, const std::string& name) override;

  void abort(const std::string& reason) override {
    World& world = *member_->group->world;
    std::lock_guard lock(world.mutex);
    world.abort(reason);
  }

  void leave() {
    World& world = *member_->group->world;
    std::lock_guard lock(world.mutex);
    world.left[member_->group->members[rank()]] = true;
    world.changed.notify_all();
  }

 private:
  WorkPtr start(Call call) override {
    return std::make_unique<LocalWork>(member_, member_->post(std::move(call)));
  }

  std::shared_ptr<Member> member_;
};

std::shared_ptr<Communicator> LocalCommunicator::split(int color, const std::string& name) {
  auto slot = member_->post({.operation = Operation::kSplit, .color = color});
  member_->complete(slot, {});
  const Group& parent = *member_->group;
  std::lock_guard lock(parent.world->mutex);
  auto& group = slot->groups[color];
  if (!group) {
    group = std::make_shared<Group>();
    group->world = parent.world;
    group->name = name;
    group->timeout = parent.timeout;
    for (int r = 0; r < size(); ++r) {
      if (slot->calls[r].color == color) group->members.push_back(parent.members[r]);
    }
  }
  int place = 0;
  while (group->members[place] != parent.members[rank()]) ++place;
  return std::make_shared<LocalCommunicator>(group, place);
}

}  // namespace local

std::vector<std::shared_ptr<Communicator>> make_local_world(int size,
                                                            std::chrono::milliseconds timeout) {
  VEOMNI_CHECK(size >= 1, "a job needs at least one rank; got ", size);
  read_fault_environment();
  auto group = std::make_shared<local::Group>();
  group->world = std::make_shared<local::World>();
  local::World& world = *group->world;
  world.left.assign(size, false);
  world.num_calls.assign(size, 0);
  for (int r = 0; r < size; ++r) {
    // A rank's own time-out says more: the watchdog is for processes.
    world.flights.push_back(std::make_unique<Flight>(r, nullptr));
  }
  group->name = "world";
  group->timeout = timeout;
  for (int r = 0; r < size; ++r) group->members.push_back(r);
  std::vector<std::shared_ptr<Communicator>> ranks;
  for (int r = 0; r < size; ++r)
    ranks.push_back(std::make_shared<local::LocalCommunicator>(group, r));
  return ranks;
}

std::shared_ptr<Communicator> make_single_communicator() { return make_local_world(1)[0]; }

void leave_local_world(Communicator& comm) {
  auto* local = dynamic_cast<local::LocalCommunicator*>(&comm);
  VEOMNI_CHECK(local, "communicator '", comm.name(), "' is not of backend local");
  local->leave();
}

}  // namespace veomni
