// SPDX-License-Identifier: Apache-2.0
#include "mpi/runtime.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "veomni/base/error.h"

namespace veomni::mpi {

namespace {

// Calls use higher tags.
constexpr int kTagAbort = 1, kTagLeft = 2;
constexpr size_t kReasonBytes = 4000;
// MPI counts in int.
constexpr int64_t kPiece = 256 << 20;

}  // namespace

void give_way(int64_t tries) {
  if (tries < 300) {
    ::sched_yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(tries < 3000 ? 20 : 200));
  }
}

void check_mpi(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw_error(detail::concat(what, ": ", std::string(text, static_cast<size_t>(length))));
}

void start_mpi(int* rank, int* size) {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  VEOMNI_CHECK(!ended, "MPI has been ended; it cannot start twice in a process");
  int threads = MPI_THREAD_SINGLE;
  if (started) {
    MPI_Query_thread(&threads);
  } else {
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &threads), "MPI_Init_thread");
  }
  VEOMNI_CHECK(threads >= MPI_THREAD_SERIALIZED, "this MPI has no support for threads (level ",
               threads, "); take one that was built with it");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, size), "MPI_Comm_size");
}

void Messages::send(MPI_Comm comm, int to, int tag, const void* data, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += kPiece) {
    check_mpi(MPI_Isend(static_cast<const char*>(data) + at,
                        static_cast<int>(std::min(kPiece, bytes - at)), MPI_BYTE, to, tag, comm,
                        &requests_.emplace_back()),
              "MPI_Isend");
  }
}

void Messages::receive(MPI_Comm comm, int from, int tag, void* data, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += kPiece) {
    check_mpi(
        MPI_Irecv(static_cast<char*>(data) + at, static_cast<int>(std::min(kPiece, bytes - at)),
                  MPI_BYTE, from, tag, comm, &requests_.emplace_back()),
        "MPI_Irecv");
  }
}

bool Messages::test() {
  if (requests_.empty()) return true;
  int all = 0;
  check_mpi(
      MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &all, MPI_STATUSES_IGNORE),
      "MPI_Testall");
  if (all) requests_.clear();
  return all != 0;
}

std::shared_ptr<MpiJob> MpiJob::make(process::Clock::time_point deadline) {
  static std::atomic<int> jobs{0};
  int rank = 0, size = 1;
  start_mpi(&rank, &size);
  // A communicator of its own: what an aborted job left under way finds nobody here.
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Comm_idup(MPI_COMM_WORLD, &comm, &request), "MPI_Comm_idup");
  for (int done = 0, tries = 0; !done; give_way(tries++)) {
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    VEOMNI_CHECK(done || process::Clock::now() < deadline,
                 "the other ranks did not make their MPI world in time");
  }
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  return std::shared_ptr<MpiJob>(new MpiJob(rank, size, comm, jobs++));
}

MpiJob::MpiJob(int rank, int size, MPI_Comm comm, int number)
    : Job(rank, size), comm_(comm), number_(number), left_(size, false) {}

// The communicator is not freed: that is a collective call.
MpiJob::~MpiJob() {
  int ended = 0;
  MPI_Finalized(&ended);
  if (ended) return;
  try {
    if (untold_.exchange(false)) tell(kTagAbort, reason());
    // In a job that was aborted a farewell tells nobody anything, and sent to a dead rank it would
    // hold this one up until its launcher ends it, before it has said what happened.
    if (!aborted()) tell(kTagLeft, "-");
    const auto give_up = process::Clock::now() + std::chrono::milliseconds(500);
    for (int tries = 0; !telling_.test() && process::Clock::now() < give_up; ++tries)
      give_way(tries);
  } catch (const Error&) {
    // They learn it from their launcher.
  }
  // What MPI may still read stays.
  if (!telling_.empty()) new std::list<std::string>(std::move(told_));
}

std::string MpiJob::reason() const {
  std::lock_guard lock(mutex_);
  return reason_;
}

void MpiJob::abort(const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    if (aborted_) return;
    reason_ = reason.substr(0, kReasonBytes);
    aborted_ = true;
  }
  untold_ = true;
}

void MpiJob::tell(int tag, const std::string& text) {
  const std::string& kept = told_.emplace_back(text.empty() ? "-" : text);
  for (int r = 0; r < size(); ++r) {
    if (r != rank()) telling_.send(comm_, r, tag, kept.data(), static_cast<int64_t>(kept.size()));
  }
}

void MpiJob::poll() {
  if (untold_.exchange(false)) tell(kTagAbort, reason());
  telling_.test();
  for (int tag : {kTagAbort, kTagLeft}) {
    int there = 0;
    MPI_Status status;
    check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm_, &there, &status), "MPI_Iprobe");
    if (!there) continue;
    // It is here and short: this does not wait.
    std::string text(kReasonBytes, 0);
    check_mpi(MPI_Recv(text.data(), static_cast<int>(text.size()), MPI_BYTE, status.MPI_SOURCE, tag,
                       comm_, &status),
              "MPI_Recv");
    if (tag == kTagLeft) {
      left_[status.MPI_SOURCE] = true;
      continue;
    }
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    std::lock_guard lock(mutex_);
    if (!aborted_) reason_ = text.substr(0, static_cast<size_t>(bytes));
    aborted_ = true;
  }
}

void MpiJob::check_peer(int rank) const {
  if (left_[rank]) throw process::PeerGone{rank, "has ended", false};
}

}  // namespace veomni::mpi
