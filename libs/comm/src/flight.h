// SPDX-License-Identifier: Apache-2.0
/// One rank's ring of calls.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <string>

#include "call.h"
#include "veomni/comm/flight.h"

namespace veomni {

class Flight {
 public:
  static constexpr size_t kEntries = 256;
  enum class State : int { kEmpty, kEnqueued, kStarted, kDone, kFailed };

  struct Entry {
    std::atomic<int64_t> ticket{-1};
    std::atomic<State> state{State::kEmpty};
    std::atomic<int64_t> enqueued{0}, started{0}, ended{0};  ///< steady clock, ns
    std::atomic<int64_t> overdue{0};  ///< when the watchdog aborts the job; 0: never
    int64_t sequence = 0;
    char group[32] = "", label[96] = "";
    Signature signature{};
  };

  /// A call's place in the ring; harmless once the ring has gone round.
  struct Ticket {
    Flight* flight = nullptr;
    int64_t number = 0;
    void start(std::chrono::steady_clock::time_point deadline) const;
    void set_deadline(std::chrono::steady_clock::time_point deadline) const;
    void end(bool failed) const;
    /// " of <label>"; empty without one, or once the ring has gone round.
    std::string by() const;

   private:
    Entry* entry() const;
  };

  /// `abort` is called by the watchdog, until this object is destroyed; empty: it only records.
  Flight(int rank, std::function<void(const std::string& reason)> abort);
  ~Flight();
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  /// Only the rank's own thread.
  Ticket record(const Signature& signature, const std::string& group, int64_t sequence);

  /// Aborts the job if a call is overdue. Only the watchdog.
  void watch();
  /// As write_flight does.
  bool write(const char* path) const noexcept;
  int rank() const { return rank_; }

 private:
  void write_entry(int file, const Entry& entry, int64_t now) const noexcept;

  int rank_;
  std::function<void(const std::string& reason)> abort_;
  std::array<Entry, kEntries> ring_;
  std::atomic<int64_t> next_{0};
  bool reported_ = false;
};

}  // namespace veomni
