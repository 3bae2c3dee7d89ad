// SPDX-License-Identifier: Apache-2.0
/// A few threads that run functions in the order they were handed in.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace veomni::data {

/// The threads speak with the context (ThreadContext) of the one that made the pool.
class WorkPool {
 public:
  explicit WorkPool(int threads);
  /// Waits for what is running; what has not begun is dropped.
  ~WorkPool();
  WorkPool(const WorkPool&) = delete;
  WorkPool& operator=(const WorkPool&) = delete;

  /// `work` may not throw.
  void submit(std::function<void()> work);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace veomni::data
