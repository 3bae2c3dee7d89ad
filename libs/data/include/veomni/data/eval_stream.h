// SPDX-License-Identifier: Apache-2.0
/// Walks sources once, for evaluation.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "veomni/data/loader.h"

namespace veomni::data {

/// Every record of every source once, source by source, in the files' order (weights and shuffle do
/// not matter), packed in that order. Micro-batch i of rank r is number i·dp_size + r; all ranks get
/// equally many, so the last may be empty on some. Drops no condition. Owns
/// data.decode_threads threads where there are media; not thread-safe.
class EvalStream {
 public:
  /// @param plan         seed and accumulation are not used
  /// @param max_records  stop after so many records of each source; 0: all
  /// @throws ConfigError as Loader.
  EvalStream(const DataOptions& options, const LoaderPlan& plan, const Tokenizer& tokenizer,
             int64_t max_records = 0, const MediaProcessors& processors = {});
  ~EvalStream();

  /// This rank's next micro-batch, possibly empty; none at the end, on all ranks at the same call.
  /// @throws BadRecord with on_bad_record: fail.
  std::optional<MicroBatch> next();
  /// Starts over, counts included.
  void rewind();
  std::vector<SourceCounts> counts() const;
  const std::vector<std::string>& source_names() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace veomni::data
