// SPDX-License-Identifier: Apache-2.0
/// The micro-batches of every training step.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "veomni/data/data_options.h"
#include "veomni/data/media_processors.h"
#include "veomni/data/sample.h"
#include "veomni/data/tokenizer.h"

namespace veomni::data {

/// What the loader needs from the sections `train` and `mesh`.
struct LoaderPlan {
  uint64_t seed = 0;
  int64_t micro_batch_tokens = 0;
  int64_t accumulation = 1;  ///< micro-batches a step and rank
  int dp_rank = 0;           ///< this rank's place among the data-parallel ranks
  int dp_size = 1;
};

/// What became of the records drawn from one source. An epoch that draws a record again counts it again.
struct SourceCounts {
  std::string name;
  int64_t records = 0;    ///< drawn and used
  int64_t samples = 0;    ///< made of them
  int64_t tokens = 0;     ///< in these samples
  int64_t bad = 0;        ///< not usable, skipped
  int64_t truncated = 0;  ///< cut at the right
  int64_t split = 0;      ///< cut into several samples
  int64_t too_long = 0;   ///< left out by long_sample: skip
  int64_t epoch = 0;      ///< full passes over the source
};

/// An endless stream of micro-batches, dealt to ranks.
///
/// The stream — every record drawn, every sample, every bin — is a pure function of the options, the
/// seed, micro_batch_tokens and the files. dp_rank, dp_size and accumulation only say which part of it
/// a call returns: micro-batch k of step s on rank r is number (s·accumulation + k)·dp_size + r.
/// The price: every rank reads, decodes and tokenises the whole stream and keeps its share.
///
/// Record n of the stream comes from a source drawn by weight with the key (seed, "mix", n); a source
/// walks its records in the order keyed by (seed, "shuffle", source name, epoch), or as they are.
/// A source whose epoch gives no usable record at all is an Error (it would never end).
///
/// Records are made into samples by data.decode_threads threads ahead of their turn where there are media; the stream
/// does not depend on their number. The files that media lie in must not change while the stream is used.
///
/// Not thread-safe; owns the thread that packs ahead and those that decode.
class Loader {
 public:
  /// @param options  `sources` may not be empty, weights sum to more than 0, names are distinct
  /// @param tokenizer  may be empty with processors.only_targets
  /// @param processors  media of a modality that has none make a record bad
  /// @throws ConfigError naming the source or key.
  Loader(const DataOptions& options, const LoaderPlan& plan, const Tokenizer& tokenizer,
         const MediaProcessors& processors = {});
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// This rank's `accumulation` micro-batches of the next step; none is empty.
  /// @throws what the working thread met: BadRecord (on_bad_record: fail), Error; again on every
  ///         later call.
  std::vector<MicroBatch> next();

  /// The stream's position after the steps that next() has returned, whatever was prefetched. Equal on
  /// all ranks. Small: cursors, and the samples in open bins as references.
  nlohmann::json state() const;
  /// Continues where state() was taken, bit for bit. dp_size and accumulation may differ: the stream
  /// goes on with the first micro-batch that was not handed out.
  /// @throws Error if the state is malformed or its sources, their sizes, seed or packing differ from
  ///         this loader's, naming which.
  void restore(const nlohmann::json& state);

  /// Counts that belong to state(), not to what was prefetched.
  std::vector<SourceCounts> counts() const;

  /// Names of the sources, index = SampleRef::source.
  const std::vector<std::string>& source_names() const;
  /// Records of each source.
  std::vector<int64_t> source_sizes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace veomni::data
