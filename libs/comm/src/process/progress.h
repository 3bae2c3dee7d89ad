// SPDX-License-Identifier: Apache-2.0
/// The communication thread of a process: runs calls in the order they were made, while the rank
/// computes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "process/transport.h"
#include "veomni/base/context.h"

namespace veomni::process {

/// One call in the queue.
class Task {
 public:
  virtual ~Task() = default;
  /// Does it all; keeps failures to itself.
  virtual void run(const std::atomic<bool>& stop) = 0;

 private:
  friend class Progress;
  bool done_ = false;
};

class Progress {
 public:
  /// The thread speaks as `context` in messages. `idle` is called by it every 50 ms without work.
  Progress(ThreadContext context, std::function<void()> idle);
  /// Ends the thread. A call under way stops waiting and fails; those not begun are dropped.
  ~Progress();

  void post(std::shared_ptr<Task> task);

  /// Runs tasks itself while none is running: a call waited for at once costs no change of thread.
  /// @return false if `task` was not done by `deadline`
  bool wait(const Task& task, Clock::time_point deadline);

 private:
  void loop();
  void run_front(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable posted_, finished_;
  std::deque<std::shared_ptr<Task>> queue_;
  bool running_ = false;  ///< some thread runs a task
  std::atomic<bool> stop_{false};
  ThreadContext context_;
  std::function<void()> idle_;
  std::thread thread_;
};

}  // namespace veomni::process
