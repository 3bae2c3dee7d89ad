// SPDX-License-Identifier: Apache-2.0
/// Packs samples into micro-batches of a token budget.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "veomni/data/sample.h"

namespace veomni::data {

/// First-fit with a small look-ahead, a pure function of the samples' order:
///   - a sample goes into the oldest of the open bins that has room for it;
///   - if none has, it opens a new one; when `open_bins` are open already, the oldest leaves first;
///   - a bin that is exactly full leaves at once.
/// So a bin waits for at most as long as it takes the stream to fill `open_bins` bins, and with
/// open_bins = 1 the samples keep their order.
class Packer {
 public:
  /// @throws ConfigError unless both are at least 1.
  Packer(int64_t budget_tokens, int64_t open_bins);

  /// @throws Error if the sample is empty or longer than the budget.
  void put(Sample sample);
  /// The next bin that left, in the order they left.
  std::optional<MicroBatch> take();
  /// All open bins leave, oldest first: the stream has ended.
  void flush();

  /// For checkpoints: what is held, oldest first; set() puts it back.
  const std::deque<MicroBatch>& open() const { return open_; }
  const std::deque<MicroBatch>& ready() const { return ready_; }
  void set(std::deque<MicroBatch> open, std::deque<MicroBatch> ready);

 private:
  int64_t budget_tokens_;
  int64_t open_bins_;
  std::deque<MicroBatch> open_, ready_;
  std::deque<int64_t> open_tokens_;  // of open_, so that first-fit does not sum
};

}  // namespace veomni::data
