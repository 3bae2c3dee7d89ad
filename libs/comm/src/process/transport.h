// SPDX-License-Identifier: Apache-2.0
/// What a backend whose ranks are processes implements: meeting the other ranks and moving bytes.
/// Order, threads, agreement, messages and time-outs are GroupCommunicator's.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "call.h"

namespace veomni::process {

using Clock = std::chrono::steady_clock;

// How a wait inside a transport ends early. They never leave the library.
struct JobAborted {};
struct Stopped {};  ///< the communicator is being destroyed
struct TimedOut {};
struct PeerGone {
  int world_rank;
  std::string how;  ///< "has ended", "(process 4242) has died"
  bool died;
};

/// What all groups of a job share in one process.
class Job {
 public:
  Job(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~Job() = default;
  int rank() const { return rank_; }
  int size() const { return size_; }

  virtual bool aborted() const = 0;
  /// Requires aborted().
  virtual std::string reason() const = 0;
  /// The first reason stays. Any thread.
  virtual void abort(const std::string& reason) = 0;
  /// Looks for news of other processes where they do not arrive by themselves. Only for the thread
  /// that runs calls.
  virtual void poll() {}

 private:
  int rank_, size_;
};

/// What a wait asks from time to time.
class Patience {
 public:
  /// `deadline`: nanoseconds of Clock since its epoch; may move while the call runs.
  Patience(Job& job, const std::atomic<int64_t>& deadline, const std::atomic<bool>& stop)
      : job_(job), deadline_(deadline), stop_(stop) {}

  /// To be called at least every 50 ms by whatever waits.
  /// @throws JobAborted, Stopped, TimedOut
  void check() const {
    job_.poll();
    if (job_.aborted()) throw JobAborted();
    if (stop_.load(std::memory_order_relaxed)) throw Stopped();
    if (Clock::now().time_since_epoch().count() >= deadline_.load(std::memory_order_relaxed))
      throw TimedOut();
  }

 private:
  Job& job_;
  const std::atomic<int64_t>& deadline_;
  const std::atomic<bool>& stop_;
};

/// One rank's end of a group. One thread at a time, except arrived().
class Transport {
 public:
  explicit Transport(std::vector<int> members, int rank)
      : members_(std::move(members)), rank_(rank) {}
  virtual ~Transport() = default;

  /// World ranks, in the group's order; places in this list are the group's ranks.
  const std::vector<int>& members() const { return members_; }
  int rank() const { return rank_; }
  int size() const { return static_cast<int>(members_.size()); }

  using OnArrival = std::function<void(int rank, const Offer& offer)>;
  /// Shows this rank's offer for call `sequence` (0, 1, 2, …) and returns when every rank's is
  /// here. `seen` is called for each other rank as it arrives. The offers are valid until the next
  /// meet.
  virtual const std::vector<Offer>& meet(int64_t sequence, const Offer& mine, const OnArrival& seen,
                                         Patience& patience) = 0;

  /// Whether `rank` has shown call `sequence`. Any thread.
  virtual bool arrived(int rank, int64_t sequence) const = 0;

  /// Does this rank's part of a call on which all ranks agree. size() > 1.
  virtual void move(const Call& call, const std::vector<Offer>& offers, Patience& patience) = 0;

  /// This rank's end of the group of `places` (this rank among them), in which every member calls
  /// it during the same split. `id` is the same on all members, and of no other group.
  virtual std::shared_ptr<Transport> split(const std::vector<int>& places, const std::string& id,
                                           Patience& patience) = 0;

  /// See Communicator. Any thread.
  virtual c10::Allocator* window_allocator() { return nullptr; }

 protected:
  struct Part {
    std::vector<int> members;  ///< world ranks
    int rank = 0;              ///< this rank's place among them
  };
  /// What the group of `places`, this rank's among them, is made of.
  Part part_of(const std::vector<int>& places) const {
    Part part;
    for (int place : places) {
      if (place == rank_) part.rank = static_cast<int>(part.members.size());
      part.members.push_back(members_[place]);
    }
    return part;
  }

 private:
  std::vector<int> members_;
  int rank_;
};

}  // namespace veomni::process
