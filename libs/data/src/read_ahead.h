// SPDX-License-Identifier: Apache-2.0
/// Records made into samples by threads, ahead of their use and in order.
#pragma once

#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <optional>

#include "source_set.h"
#include "work_pool.h"

namespace veomni::data {

/// How many threads these options ask for: none for text alone, which is made faster than it can be handed over.
int decode_threads(const DataOptions& options, const MediaProcessors& processors);

/// A record drawn and what it became.
struct Drawn {
  SampleRef ref;
  RecordOutcome outcome;
};

/// What next() gives does not depend on the number of threads. Not thread-safe itself.
class ReadAhead {
 public:
  /// The next record to make, none at the end; called by next() alone, ahead of what it returns.
  using Draw = std::function<std::optional<SampleRef>()>;

  /// @param threads  0: a record is made when it is asked for
  ReadAhead(const SourceSet& sources, int threads, Draw draw);
  ~ReadAhead();

  /// @throws what SourceSet::make throws, at the record's turn
  std::optional<Drawn> next();
  /// Forgets what was drawn ahead: the next draw is the next thing that next() returns.
  void clear();

 private:
  struct Pending {
    SampleRef ref;
    std::future<RecordOutcome> outcome;
  };
  void fill();

  const SourceSet& sources_;
  int threads_;
  Draw draw_;
  bool ended_ = false;
  std::deque<Pending> pending_;
  std::unique_ptr<WorkPool> pool_;  // made at the first use; last, so that its threads end first
};

}  // namespace veomni::data
