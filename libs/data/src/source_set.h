// SPDX-License-Identifier: Apache-2.0
/// A recipe's sources, opened: what the training stream and the evaluation stream share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sample_maker.h"
#include "veomni/data/data_options.h"
#include "veomni/data/loader.h"
#include "veomni/data/source.h"

namespace veomni::data {

/// Immutable once made.
class SourceSet {
 public:
  /// @throws ConfigError naming the source or key.
  SourceSet(const DataOptions& options, int64_t micro_batch_tokens, const Tokenizer& tokenizer);

  int size() const { return static_cast<int>(sources_.size()); }
  int64_t records(int source) const { return sources_[source]->size(); }
  const std::vector<std::string>& names() const { return names_; }
  /// Counts of zero, with names.
  std::vector<SourceCounts> no_counts() const;

  /// The samples of a record, counted in `counts`. Empty if the record was left out; a bad one is named
  /// in the log, the first and then every hundredth.
  /// @throws BadRecord with on_bad_record: fail.
  std::vector<Sample> load(int source, int64_t record, SourceCounts& counts) const;

  /// The sample again that load() gave for `ref`. @throws Error if the record no longer gives it.
  Sample reload(const SampleRef& ref) const;

 private:
  MadeSamples make(const SampleRef& ref) const;

  std::vector<std::string> names_;
  std::vector<std::unique_ptr<Source>> sources_;
  SampleMaker maker_;
  bool fail_on_bad_;
};

}  // namespace veomni::data
