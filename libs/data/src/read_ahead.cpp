// SPDX-License-Identifier: Apache-2.0
#include "read_ahead.h"

#include <utility>

namespace veomni::data {

namespace {
// Enough that a slow record does not leave the other threads idle; few enough that decoded pictures do not pile up.
constexpr size_t kRecordsPerThread = 4;
}  // namespace

int decode_threads(const DataOptions& options, const MediaProcessors& processors) {
  const bool has_media = !processors.inputs.empty() || !processors.targets.empty();
  return has_media ? static_cast<int>(options.decode_threads) : 0;
}

ReadAhead::ReadAhead(const SourceSet& sources, int threads, Draw draw)
    : sources_(sources), threads_(threads), draw_(std::move(draw)) {}

ReadAhead::~ReadAhead() = default;

void ReadAhead::fill() {
  if (!pool_) pool_ = std::make_unique<WorkPool>(threads_);
  while (!ended_ && pending_.size() < kRecordsPerThread * threads_) {
    const std::optional<SampleRef> ref = draw_();
    if (!ref) {
      ended_ = true;
      return;
    }
    auto task = std::make_shared<std::packaged_task<RecordOutcome()>>(
        [this, ref = *ref] { return sources_.make(ref); });
    pending_.push_back({*ref, task->get_future()});
    pool_->submit([task] { (*task)(); });
  }
}

std::optional<Drawn> ReadAhead::next() {
  if (threads_ == 0) {
    const std::optional<SampleRef> ref = draw_();
    if (!ref) return std::nullopt;
    return Drawn{*ref, sources_.make(*ref)};
  }
  fill();
  if (pending_.empty()) return std::nullopt;
  Pending first = std::move(pending_.front());
  pending_.pop_front();
  return Drawn{first.ref, first.outcome.get()};
}

void ReadAhead::clear() {
  pool_.reset();
  pending_.clear();
  ended_ = false;
}

}  // namespace veomni::data
