// SPDX-License-Identifier: Apache-2.0
/// A recipe's sources, opened: what the training stream and the evaluation stream share.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sample_maker.h"
#include "veomni/data/data_options.h"
#include "veomni/data/loader.h"
#include "veomni/data/source.h"

namespace veomni::data {

/// What became of one record.
struct RecordOutcome {
  MadeSamples made;
  std::optional<std::string> bad;  ///< why it cannot be used, with its place; then `made` is empty
};

/// Immutable once made. Thread-safe.
class SourceSet {
 public:
  /// @param drop_seed  keys SourceOptions::drop_condition; without it nothing is dropped
  /// @throws ConfigError naming the source or key.
  SourceSet(const DataOptions& options, int64_t micro_batch_tokens, const Tokenizer& tokenizer,
            const MediaProcessors& processors, std::optional<uint64_t> drop_seed);

  int size() const { return static_cast<int>(sources_.size()); }
  int64_t records(int source) const { return sources_[source]->size(); }
  const std::vector<std::string>& names() const { return names_; }
  /// Counts of zero, with names.
  std::vector<SourceCounts> no_counts() const;

  /// A pure function of the reference, the files and the drop seed. ref.chunk is not read.
  RecordOutcome make(const SampleRef& ref) const;

  /// The samples of an outcome, counted in `counts`. Empty if the record was left out; a bad one is named
  /// in the log, the first and then every hundredth.
  /// @throws BadRecord with on_bad_record: fail.
  std::vector<Sample> take(RecordOutcome outcome, SourceCounts& counts) const;

  /// The sample again that came of `ref`. @throws Error if the record no longer gives it.
  Sample reload(const SampleRef& ref) const;

 private:
  bool drops_condition(const SampleRef& ref) const;

  std::vector<std::string> names_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<double> drop_condition_;
  std::optional<uint64_t> drop_seed_;
  SampleMaker maker_;
  bool fail_on_bad_;
};

}  // namespace veomni::data
