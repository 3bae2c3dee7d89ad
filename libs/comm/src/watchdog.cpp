// SPDX-License-Identifier: Apache-2.0
#include "watchdog.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "flight.h"

namespace veomni {

namespace {

constexpr std::chrono::milliseconds kPeriod{200};

/// Rings where a signal handler can find them. More ranks than that in one process are tests.
std::array<std::atomic<Flight*>, 256> visible{};

class Watchdog {
 public:
  void add(Flight* flight) {
    std::lock_guard lock(mutex_);
    flights_.push_back(flight);
    for (auto& slot : visible) {
      Flight* none = nullptr;
      if (slot.compare_exchange_strong(none, flight)) break;
    }
    if (!thread_.joinable()) thread_ = std::thread([this] { loop(); });
    changed_.notify_all();
  }

  void remove(Flight* flight) {
    std::lock_guard lock(mutex_);
    for (auto& slot : visible) {
      Flight* same = flight;
      slot.compare_exchange_strong(same, nullptr);
    }
    flights_.erase(std::remove(flights_.begin(), flights_.end(), flight), flights_.end());
  }

  ~Watchdog() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

 private:
  void loop() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      if (flights_.empty()) {
        changed_.wait(lock);
      } else {
        changed_.wait_for(lock, kPeriod);
      }
      for (Flight* flight : flights_) flight->watch();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Flight*> flights_;
  bool stop_ = false;
  std::thread thread_;
};

Watchdog& watchdog() {
  static Watchdog instance;
  return instance;
}

}  // namespace

void watch_flight(Flight* flight) { watchdog().add(flight); }
void unwatch_flight(Flight* flight) { watchdog().remove(flight); }

std::vector<int> flight_ranks() {
  std::vector<int> ranks;
  for (auto& slot : visible) {
    if (Flight* flight = slot.load()) ranks.push_back(flight->rank());
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

bool write_flight(const char* path, int rank) noexcept {
  for (auto& slot : visible) {
    const Flight* flight = slot.load();
    if (flight && flight->rank() == rank) return flight->write(path);
  }
  return false;
}

}  // namespace veomni
