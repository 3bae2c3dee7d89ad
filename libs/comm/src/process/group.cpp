// SPDX-License-Identifier: Apache-2.0
#include "process/group.h"

#include "call_communicator.h"
#include "fault.h"
#include "flight.h"
#include "local/execute.h"
#include "veomni/base/trace.h"
#include "veomni/comm/rank_scope.h"

namespace veomni::process {

namespace {

using std::chrono::milliseconds;

int64_t nanoseconds_of(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

/// What the calls of one group need; outlives the communicator while calls are queued.
struct Group {
  std::shared_ptr<Job> job;
  std::shared_ptr<Flight> flight;
  std::shared_ptr<int64_t> num_calls;  ///< by this rank in all groups
  std::shared_ptr<Transport> transport;
  std::string name, id;
  milliseconds timeout;

  int world_rank(int place) const { return transport->members()[place]; }
  std::string absent(int64_t sequence) const;
};

/// "1, 3": world ranks that have not shown call `sequence`.
std::string Group::absent(int64_t sequence) const {
  std::string text;
  for (int r = 0; r < transport->size(); ++r) {
    if (r == transport->rank() || transport->arrived(r, sequence)) continue;
    text += detail::concat(text.empty() ? "" : ", ", world_rank(r));
  }
  return text;
}

class CallTask final : public Task {
 public:
  /// `number`: of this rank's collectives in all groups; -1 for a split.
  CallTask(std::shared_ptr<Group> group, Call call, int64_t sequence, int64_t number)
      : group_(std::move(group)),
        call_(std::move(call)),
        signature_(sign(call_)),
        sequence_(sequence),
        number_(number),
        ticket_(group_->flight->record(signature_, group_->name, sequence)) {}

  void run(const std::atomic<bool>& stop) override;

  /// Once it is done: its failure, if any.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }
  Operation operation() const { return signature_.operation; }
  /// Once a split is done.
  const std::shared_ptr<Group>& made() const { return made_; }

  /// From when on a wait of the running call gives up.
  void set_deadline(Clock::time_point deadline) {
    deadline_ = nanoseconds_of(deadline);
    ticket_.set_deadline(deadline);
  }

  /// A wait gave up at `timeout`: aborts the job and throws why.
  [[noreturn]] void fail_waiting(milliseconds timeout) const;

 private:
  Offer offer() const { return {&signature_, call_.in_splits, call_.out_splits}; }
  std::string label() const {
    return detail::concat(describe(offer()), " #", sequence_, " on '", group_->name, "'",
                          ticket_.by());
  }
  std::string timed_out(milliseconds timeout) const;
  void execute(Patience& patience);
  void make_group(const std::vector<Offer>& offers, Patience& patience);
  template <typename Failure = Error> void fail(const std::string& message);

  std::shared_ptr<Group> group_;
  Call call_;
  Signature signature_;
  int64_t sequence_, number_;
  Flight::Ticket ticket_;
  std::atomic<int64_t> deadline_{0};  ///< 0: the group's time-out from the beginning
  std::exception_ptr error_;
  std::shared_ptr<Group> made_;
};

std::string CallTask::timed_out(milliseconds timeout) const {
  const std::string missing = group_->absent(sequence_);
  return detail::concat(label(), " timed out after ", timeout.count(), " ms",
                        missing.empty() ? "; all ranks arrived but not all finished"
                                        : "; ranks that had not arrived: " + missing);
}

void CallTask::fail_waiting(milliseconds timeout) const {
  const std::string message = timed_out(timeout);
  group_->job->abort(rank_label(group_->job->rank(), group_->job->size()) + message);
  throw_error(message);
}

/// Ends the job with this rank's message.
template <typename Failure> void CallTask::fail(const std::string& message) {
  group_->job->abort(rank_label(group_->job->rank(), group_->job->size()) + message);
  error_ = std::make_exception_ptr(Failure(thread_context().label + message));
}

void CallTask::run(const std::atomic<bool>& stop) {
  const auto begin = Clock::now();
  int64_t unset = 0;
  deadline_.compare_exchange_strong(unset, nanoseconds_of(begin + group_->timeout));
  ticket_.start(Clock::time_point(std::chrono::nanoseconds(deadline_)));
  Patience patience(*group_->job, deadline_, stop);
  try {
    group_->job->poll();  // a call that waits for nobody must see an abort too
    if (group_->job->aborted()) throw JobAborted();
    execute(patience);
  } catch (const JobAborted&) {
    error_ = std::make_exception_ptr(
        AbortedError(thread_context().label + label() + " was aborted: " + group_->job->reason()));
  } catch (const Stopped&) {
    error_ = std::make_exception_ptr(
        AbortedError(label() + " cannot complete: its communicator was destroyed"));
  } catch (const TimedOut&) {
    fail(timed_out(std::chrono::duration_cast<milliseconds>(
        std::chrono::nanoseconds(deadline_ - nanoseconds_of(begin)))));
  } catch (const PeerGone& gone) {
    const std::string missing = group_->absent(sequence_);
    const auto message =
        detail::concat(label(), " cannot complete: rank ", gone.world_rank, " ", gone.how,
                       missing.empty() ? "" : "; ranks that had not arrived: " + missing);
    gone.died ? fail<AbortedError>(message) : fail(message);
  } catch (const std::exception& e) {
    group_->job->abort(e.what());
    error_ = std::current_exception();
  }
  ticket_.end(error_ != nullptr);
  // The tensors go back to the rank now, whenever it looks at its Work.
  call_.ins.clear();
  call_.outs.clear();
}

void CallTask::execute(Patience& patience) {
  Transport& transport = *group_->transport;
  const Offer mine = offer();
  std::vector<Offer> alone{mine};
  const std::vector<Offer>* offers = &alone;
  if (transport.size() > 1) {
    offers = &transport.meet(
        sequence_, mine,
        [&](int r, const Offer& theirs) {
          if (agree(theirs, r, mine, transport.rank())) return;
          throw_error(disagreement(group_->name, sequence_, theirs, group_->world_rank(r), mine,
                                   group_->world_rank(transport.rank())));
        },
        patience);
  }
  if (const auto fault = fault_at(group_->job->rank(), number_, true)) {
    suffer(*fault, [&] { return group_->job->aborted(); });
    throw JobAborted();
  }
  if (call_.operation == Operation::kSplit) return make_group(*offers, patience);
  if (call_.operation == Operation::kBarrier) return;
  if (transport.size() == 1) return local::execute({call_}, 0);
  transport.move(call_, *offers, patience);
}

void CallTask::make_group(const std::vector<Offer>& offers, Patience& patience) {
  std::vector<int> places;
  for (int r = 0; r < static_cast<int>(offers.size()); ++r) {
    if (offers[r].signature->color == call_.color) places.push_back(r);
  }
  made_ = std::make_shared<Group>(*group_);
  made_->id = detail::concat(group_->id, ".", sequence_, ".", call_.color);
  made_->transport = group_->transport->split(places, made_->id, patience);
}

class GroupWork final : public Work {
 public:
  GroupWork(std::shared_ptr<Progress> progress, std::shared_ptr<CallTask> task,
            milliseconds timeout)
      : progress_(std::move(progress)), task_(std::move(task)), timeout_(timeout) {}

  void wait(milliseconds timeout) override {
    if (!task_) return;  // waited for already, or skipped
    const auto task = std::move(task_);
    const trace::Span span(trace::Category::kWait, wait_name_of(task->operation()));
    auto deadline = Clock::now() + timeout_;
    if (timeout.count() != 0) {
      timeout_ = timeout;
      deadline = Clock::now() + timeout;
      task->set_deadline(deadline);
    }
    // The running call gives up by itself and knows more of what it waits for.
    if (!progress_->wait(*task, deadline + milliseconds(200))) task->fail_waiting(timeout_);
    task->rethrow();
  }

 private:
  std::shared_ptr<Progress> progress_;
  std::shared_ptr<CallTask> task_;
  milliseconds timeout_;
};

class GroupCommunicator final : public CallCommunicator {
 public:
  GroupCommunicator(std::shared_ptr<Progress> progress, std::shared_ptr<Group> group)
      : group_(std::move(group)), progress_(std::move(progress)) {}

  int rank() const override { return group_->transport->rank(); }
  int size() const override { return group_->transport->size(); }
  const std::string& name() const override { return group_->name; }
  milliseconds timeout() const override { return group_->timeout; }

  std::shared_ptr<Communicator> split(int color, const std::string& name) override {
    auto task = post({.operation = Operation::kSplit, .color = color});
    GroupWork(progress_, task, group_->timeout).wait({});
    task->made()->name = name;
    return std::make_shared<GroupCommunicator>(progress_, task->made());
  }

  void abort(const std::string& reason) override {
    group_->job->abort(reason.empty() ? "aborted" : reason);
  }

  c10::Allocator* window_allocator() override {
    return size() > 1 ? group_->transport->window_allocator() : nullptr;
  }

 private:
  WorkPtr start(Call call) override {
    return std::make_unique<GroupWork>(progress_, post(std::move(call)), group_->timeout);
  }
  /// Null if a fault skips it.
  std::shared_ptr<CallTask> post(Call call);

  std::shared_ptr<Group> group_;
  std::shared_ptr<Progress> progress_;  ///< dies first: its thread uses the group
  int64_t next_sequence_ = 0;
};

std::shared_ptr<CallTask> GroupCommunicator::post(Call call) {
  Job& job = *group_->job;
  if (job.aborted())
    throw AbortedError(thread_context().label + "the job was aborted: " + job.reason());
  if (const std::string problem = problem_of(call, size()); !problem.empty()) {
    const auto message = detail::concat(describe(call), " on '", name(), "': ", problem);
    job.abort(rank_label(job.rank(), job.size()) + message);
    throw_error(message);
  }
  const int64_t number = call.operation == Operation::kSplit ? -1 : (*group_->num_calls)++;
  if (const auto fault = fault_at(job.rank(), number, false)) {
    if (*fault == FaultKind::kSkip) return nullptr;
    suffer(*fault, [&] { return job.aborted(); });
    throw AbortedError(thread_context().label + "the job was aborted: " + job.reason());
  }
  auto task = std::make_shared<CallTask>(group_, std::move(call), next_sequence_++, number);
  progress_->post(task);
  return task;
}

}  // namespace

std::shared_ptr<Communicator> make_group_communicator(std::shared_ptr<Job> job,
                                                      std::shared_ptr<Transport> transport,
                                                      milliseconds timeout) {
  read_fault_environment();
  auto group = std::make_shared<Group>();
  group->job = job;
  // The ring dies with the last group; its job outlives it by then.
  group->flight = std::make_shared<Flight>(job->rank(), [job](const std::string& reason) {
    job->abort(rank_label(job->rank(), job->size()) + reason);
  });
  group->num_calls = std::make_shared<int64_t>(0);
  group->transport = std::move(transport);
  group->name = group->id = "world";
  group->timeout = timeout;
  ThreadContext context;
  if (job->size() > 1)
    context = {rank_label(job->rank(), job->size()), job->rank() == 0, job->rank()};
  auto progress = std::make_shared<Progress>(std::move(context), [job] { job->poll(); });
  return std::make_shared<GroupCommunicator>(std::move(progress), std::move(group));
}

}  // namespace veomni::process
