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

using Join = std::function<std::shared_ptr<Communicator>(int rank)>;

void run_rank(int rank, int size, const Join& join, const std::function<void(Communicator&)>& body,
              int threads, Failure& failure) {
  RankScope scope(rank, size);
  set_threads(threads);
  std::shared_ptr<Communicator> comm;
  auto fail = [&](bool echo) {
    failure.record(std::current_exception(), rank, echo);
    if (comm) comm->abort(message_of(std::current_exception()));
  };
  try {
    comm = join(rank);
    body(*comm);
  } catch (const AbortedError&) {
    fail(true);
  } catch (...) {
    fail(false);
  }
}

}  // namespace

void run_ranks(int size, const std::function<void(Communicator& comm)>& body,
               const RunRanksOptions& options) {
  const int hardware = static_cast<int>(std::thread::hardware_concurrency());
  const int threads =
      options.threads_per_rank > 0 ? options.threads_per_rank : std::max(1, hardware / size);
  const int threads_before = at::get_num_threads();
  std::vector<std::shared_ptr<Communicator>> local;
  if (!options.join) local = make_local_world(size, options.timeout);
  const Join join = options.join ? options.join : [&](int rank) { return local[rank]; };
  Failure failure;
  std::vector<std::thread> pool;
  for (int rank = 0; rank < size; ++rank) {
    pool.emplace_back([&, rank] {
      run_rank(rank, size, join, body, threads, failure);
      if (!local.empty()) leave_local_world(*local[rank]);
    });
  }
  for (auto& thread : pool) thread.join();
  set_threads(threads_before);
  failure.rethrow(size);
}

}  // namespace veomni
