// SPDX-License-Identifier: Apache-2.0
#include "process/progress.h"

#include <pthread.h>

namespace veomni::process {

Progress::Progress(ThreadContext context, std::function<void()> idle)
    : context_(std::move(context)), idle_(std::move(idle)), thread_([this] { loop(); }) {
  pthread_setname_np(thread_.native_handle(), "veomni-comm");
}

Progress::~Progress() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  posted_.notify_all();
  thread_.join();
}

void Progress::post(std::shared_ptr<Task> task) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
  }
  posted_.notify_one();
}

void Progress::run_front(std::unique_lock<std::mutex>& lock) {
  auto task = std::move(queue_.front());
  queue_.pop_front();
  running_ = true;
  lock.unlock();
  task->run(stop_);
  lock.lock();
  task->done_ = true;
  running_ = false;
  finished_.notify_all();
}

bool Progress::wait(const Task& task, Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  while (!task.done_) {
    if (!running_ && !queue_.empty()) {
      run_front(lock);
      if (!queue_.empty()) posted_.notify_one();
    } else if (finished_.wait_until(lock, deadline) == std::cv_status::timeout && !task.done_) {
      return false;
    }
  }
  return true;
}

void Progress::loop() {
  ThreadContextScope scope(context_);
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (!running_ && !queue_.empty()) {
      run_front(lock);
      continue;
    }
    const bool idle =
        posted_.wait_for(lock, std::chrono::milliseconds(50)) == std::cv_status::timeout &&
        !running_ && queue_.empty() && !stop_;
    if (!idle || !idle_) continue;
    // As a task: whoever waits meanwhile must not run one beside it.
    running_ = true;
    lock.unlock();
    idle_();
    lock.lock();
    running_ = false;
    finished_.notify_all();
  }
}

}  // namespace veomni::process
