// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/run_ranks.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>

#include "labelled.h"
#include "veomni/comm/local.h"
#include "veomni/comm/rank_scope.h"

namespace veomni {

namespace {

/// at::set_num_threads is per thread where it counts (OpenMP's setting), but also writes
/// process-wide ones.
void set_threads(int threads) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  at::set_num_threads(threads);
}

/// The failure of a job: the first, except that one of a rank's own doing outranks the echoes of an
/// abort.
class Failure {
 public:
  void record(const std::exception_ptr& error, int rank, bool echo) {
    std::lock_guard lock(mutex_);
    if (error_ && (echo || !echo_)) return;
    error_ = error;
    rank_ = rank;
    echo_ = echo;
  }

  void rethrow(int size) const {
    if (error_) rethrow_labelled(error_, rank_, size);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
  int rank_ = 0;
  bool echo_ = false;
};

void run_rank(Communicator& comm, const std::function<void(Communicator&)>& body, int threads,
              Failure& failure) {
  RankScope scope(comm.rank(), comm.size());
  set_threads(threads);
  auto fail = [&](bool echo) {
    failure.record(std::current_exception(), comm.rank(), echo);
    comm.abort(message_of(std::current_exception()));
  };
  try {
    body(comm);
  } catch (const AbortedError&) {
    fail(true);
  } catch (...) {
    fail(false);
  }
  leave_local_world(comm);
}

}  // namespace

void run_ranks(int size, const std::function<void(Communicator& comm)>& body,
               const RunRanksOptions& options) {
  auto world = make_local_world(size, options.timeout);
  const int hardware = static_cast<int>(std::thread::hardware_concurrency());
  const int threads =
      options.threads_per_rank > 0 ? options.threads_per_rank : std::max(1, hardware / size);
  const int threads_before = at::get_num_threads();
  Failure failure;
  std::vector<std::thread> pool;
  for (auto& comm : world) {
    pool.emplace_back([&, comm] { run_rank(*comm, body, threads, failure); });
  }
  for (auto& thread : pool) thread.join();
  set_threads(threads_before);
  failure.rethrow(size);
}

}  // namespace veomni
