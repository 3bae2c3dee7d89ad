// SPDX-License-Identifier: Apache-2.0
/// A communicator whose calls run in a thread beside the rank's: bytes move at any time between a call
/// and its wait, as with a backend that makes progress on its own.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "veomni/comm/communicator.h"

namespace veomni::parallel {

/// Runs what it is given, in order.
class Background {
 public:
  Background() : thread_([this] { run(); }) {}
  ~Background() {
    {
      std::lock_guard lock(mutex_);
      done_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  std::future<void> post(std::function<void()> call) {
    std::packaged_task<void()> task(std::move(call));
    auto result = task.get_future();
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(std::move(task));
    }
    changed_.notify_one();
    return result;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return done_ || !queue_.empty(); });
      if (queue_.empty()) return;
      auto task = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<void()>> queue_;
  bool done_ = false;
  std::thread thread_;
};

class BackgroundCommunicator final : public Communicator {
 public:
  BackgroundCommunicator(std::shared_ptr<Communicator> inner,
                         std::shared_ptr<Background> background)
      : inner_(std::move(inner)), background_(std::move(background)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }
  std::chrono::milliseconds timeout() const override { return inner_->timeout(); }

  WorkPtr all_reduce(torch::Tensor out, torch::Tensor in, ReduceOp op) override {
    return start([=, inner = inner_] { inner->all_reduce(out, in, op)->wait(); });
  }
  WorkPtr all_gather_coalesced(std::vector<torch::Tensor> outs,
                               std::vector<torch::Tensor> ins) override {
    return start([=, inner = inner_] { inner->all_gather_coalesced(outs, ins)->wait(); });
  }
  WorkPtr reduce_scatter_coalesced(std::vector<torch::Tensor> outs, std::vector<torch::Tensor> ins,
                                   ReduceOp op) override {
    return start([=, inner = inner_] { inner->reduce_scatter_coalesced(outs, ins, op)->wait(); });
  }
  WorkPtr all_to_all(torch::Tensor out, torch::Tensor in, std::vector<int64_t> out_splits,
                     std::vector<int64_t> in_splits) override {
    return start(
        [=, inner = inner_] { inner->all_to_all(out, in, out_splits, in_splits)->wait(); });
  }
  WorkPtr broadcast(torch::Tensor tensor, int root) override {
    return start([=, inner = inner_] { inner->broadcast(tensor, root)->wait(); });
  }
  WorkPtr barrier() override {
    return start([inner = inner_] { inner->barrier()->wait(); });
  }
  std::shared_ptr<Communicator> split(int color, const std::string& name) override {
    std::shared_ptr<Communicator> group;
    background_->post([&] { group = inner_->split(color, name); }).get();
    return std::make_shared<BackgroundCommunicator>(group, background_);
  }
  void abort(const std::string& reason) override { inner_->abort(reason); }

 private:
  struct BackgroundWork final : Work {
    std::future<void> done;
    void wait(std::chrono::milliseconds) override {
      if (done.valid()) done.get();
    }
  };
  WorkPtr start(std::function<void()> call) {
    auto work = std::make_unique<BackgroundWork>();
    work->done = background_->post(std::move(call));
    return work;
  }

  std::shared_ptr<Communicator> inner_;
  std::shared_ptr<Background> background_;
};

}  // namespace veomni::parallel
