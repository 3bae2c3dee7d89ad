// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/loader.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "sample_stream.h"
#include "veomni/base/context.h"

namespace veomni::data {

namespace {
// What next() hands out, with the stream's state behind it.
struct PreparedStep {
  std::vector<MicroBatch> mine;
  StreamState after;
};

void check_plan(const LoaderPlan& plan) {
  VEOMNI_CHECK_CONFIG(plan.accumulation >= 1, "train.accumulation=", plan.accumulation,
                      " must be at least 1");
  VEOMNI_CHECK_CONFIG(plan.dp_size >= 1 && plan.dp_rank >= 0 && plan.dp_rank < plan.dp_size,
                      "data-parallel rank ", plan.dp_rank, " of ", plan.dp_size, " does not exist");
}
}  // namespace

struct Loader::Impl {
  Impl(const DataOptions& options, const LoaderPlan& plan_in, const Tokenizer& tokenizer,
       const MediaProcessors& processors)
      : plan((check_plan(plan_in), plan_in)),
        queue_limit(static_cast<size_t>(options.prefetch)),
        stream(options, plan.seed, plan.micro_batch_tokens, tokenizer, processors),
        handed_out(stream.state()) {}

  PreparedStep prepare() {
    PreparedStep step;
    for (int64_t i = 0; i < plan.accumulation * plan.dp_size; ++i) {
      MicroBatch micro_batch = stream.next();
      if (i % plan.dp_size == plan.dp_rank) step.mine.push_back(std::move(micro_batch));
    }
    step.after = stream.state();
    return step;
  }

  void start() {
    if (queue_limit == 0 || worker.joinable()) return;
    worker = std::thread([this, context = thread_context()] {
      ThreadContextScope scope(context);
      work();
    });
  }

  void work() {
    std::unique_lock lock(mutex);
    while (!stopping && !failure) {
      if (queue.size() >= queue_limit) {
        changed.wait(lock);
        continue;
      }
      lock.unlock();
      std::optional<PreparedStep> step;
      std::exception_ptr error;
      try {
        step = prepare();
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error) {
        failure = error;
      } else {
        queue.push_back(std::move(*step));
      }
      changed.notify_all();
    }
  }

  void stop() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    if (worker.joinable()) worker.join();
    stopping = false;
    queue.clear();
    failure = nullptr;
  }

  PreparedStep take() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return !queue.empty() || failure; });
    // What was prepared before the failure is still good.
    if (queue.empty()) std::rethrow_exception(failure);
    PreparedStep step = std::move(queue.front());
    queue.pop_front();
    changed.notify_all();
    return step;
  }

  PreparedStep prepare_now() {
    if (failure) std::rethrow_exception(failure);
    try {
      return prepare();
    } catch (...) {
      failure = std::current_exception();
      throw;
    }
  }

  LoaderPlan plan;
  size_t queue_limit;
  SampleStream stream;  // the worker's, while it runs
  StreamState handed_out;

  std::thread worker;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<PreparedStep> queue;
  std::exception_ptr failure;
  bool stopping = false;
};

Loader::Loader(const DataOptions& options, const LoaderPlan& plan, const Tokenizer& tokenizer,
               const MediaProcessors& processors)
    : impl_(std::make_unique<Impl>(options, plan, tokenizer, processors)) {}

Loader::~Loader() { impl_->stop(); }

std::vector<MicroBatch> Loader::next() {
  impl_->start();
  PreparedStep step = impl_->queue_limit == 0 ? impl_->prepare_now() : impl_->take();
  impl_->handed_out = std::move(step.after);
  return std::move(step.mine);
}

nlohmann::json Loader::state() const { return impl_->stream.to_json(impl_->handed_out); }

void Loader::restore(const nlohmann::json& state) {
  impl_->stop();
  impl_->handed_out = impl_->stream.from_json(state);
  impl_->stream.restore(impl_->handed_out);
}

std::vector<SourceCounts> Loader::counts() const { return impl_->handed_out.counts; }

const std::vector<std::string>& Loader::source_names() const {
  return impl_->stream.sources().names();
}

std::vector<int64_t> Loader::source_sizes() const {
  std::vector<int64_t> sizes;
  for (int i = 0; i < impl_->stream.sources().size(); ++i)
    sizes.push_back(impl_->stream.sources().records(i));
  return sizes;
}

}  // namespace veomni::data
