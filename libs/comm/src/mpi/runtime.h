// SPDX-License-Identifier: Apache-2.0
/// MPI in this process, and what the ranks of a job tell each other beside their calls.
#pragma once

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <atomic>
#include <list>
#include <mutex>
#include <string>
#include <vector>

#include "process/transport.h"

namespace veomni::mpi {

/// @throws veomni::Error with MPI's text
void check_mpi(int code, const char* what);

/// Starts MPI if it has not been, and gives this rank's place.
void start_mpi(int* rank, int* size);

/// Between two tests of messages, the how-manieth in `tries`: gives the core away, and after some
/// tries for a while, so that a thread that waits long leaves the cores to those that compute.
void give_way(int64_t tries);

/// Messages under way, over buffers that others own. Finishing is theirs too: what is left when the
/// set is destroyed cannot be taken back from MPI, so its owner keeps the buffers for ever.
class Messages {
 public:
  void send(MPI_Comm comm, int to, int tag, const void* data, int64_t bytes);
  void receive(MPI_Comm comm, int from, int tag, void* data, int64_t bytes);
  /// Whether all are through. Does not wait.
  bool test();
  bool empty() const { return requests_.empty(); }

 private:
  std::vector<MPI_Request> requests_;
};

/// One job over MPI_COMM_WORLD. MPI is touched by poll() and the transports only, hence by the
/// thread that runs calls, and by constructor and destructor.
class MpiJob final : public process::Job {
 public:
  /// Every rank constructs it.
  static std::shared_ptr<MpiJob> make(process::Clock::time_point deadline);
  /// Tells the others, unless the job was aborted, that this rank makes no more calls; gives them the time of sending it.
  ~MpiJob() override;

  bool aborted() const override { return aborted_.load(std::memory_order_acquire); }
  std::string reason() const override;
  void abort(const std::string& reason) override;
  void poll() override;

  MPI_Comm comm() const { return comm_; }
  /// Of this process, from 0.
  int number() const { return number_; }
  /// @throws process::PeerGone if `rank` has told that it makes no more calls
  void check_peer(int rank) const;

 private:
  MpiJob(int rank, int size, MPI_Comm comm, int number);
  void tell(int tag, const std::string& text);

  MPI_Comm comm_;
  int number_;
  std::atomic<bool> aborted_{false}, untold_{false};
  mutable std::mutex mutex_;  ///< reason_
  std::string reason_;
  std::vector<bool> left_;
  std::list<std::string> told_;  ///< texts under way
  Messages telling_;
};

}  // namespace veomni::mpi
