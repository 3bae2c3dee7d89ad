// SPDX-License-Identifier: Apache-2.0
/// The endless global stream of micro-batches, before it is dealt to ranks.
#pragma once

#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <vector>

#include "read_ahead.h"
#include "source_set.h"
#include "veomni/data/packing.h"

namespace veomni::data {

/// Where the stream stands between two micro-batches.
struct StreamState {
  struct Cursor {
    int64_t position = 0;         ///< in the epoch's order
    int64_t usable_in_epoch = 0;  ///< records of this epoch that gave a sample
  };
  int64_t draws = 0;  ///< records drawn from all sources
  std::vector<Cursor> cursors;
  std::vector<SourceCounts> counts;  ///< its epochs belong to the cursors
  std::vector<std::vector<SampleRef>> open, ready;
};

class SampleStream {
 public:
  SampleStream(const DataOptions& options, uint64_t seed, int64_t micro_batch_tokens,
               const Tokenizer& tokenizer, const MediaProcessors& processors = {});

  /// @throws BadRecord, Error
  MicroBatch next();

  StreamState state() const;
  /// @throws Error if it does not fit the sources.
  void restore(const StreamState& state);

  /// With what must be equal for it to fit: sources, seed, packing.
  nlohmann::json to_json(const StreamState& state) const;
  /// @throws Error naming what is malformed or differs.
  StreamState from_json(const nlohmann::json& json) const;

  const SourceSet& sources() const { return sources_; }

 private:
  // Where the drawing stands in a source: ahead of its cursor.
  struct Place {
    int64_t position = 0;
    int64_t epoch = 0;
    std::vector<uint32_t> order;  // of the epoch; empty: not made yet
  };

  nlohmann::json settings() const;
  void take_record();
  SampleRef draw();
  int pick_source() const;
  int64_t record_at(int source, Place& place) const;
  void advance(int source, bool was_usable);
  std::deque<MicroBatch> reload(const std::vector<std::vector<SampleRef>>& bins) const;

  DataOptions options_;
  MediaProcessors processors_;
  uint64_t seed_;
  int64_t micro_batch_tokens_;
  SourceSet sources_;
  std::vector<double> cumulative_weights_;
  Packer packer_;
  // Of what has gone into packer_.
  int64_t draws_ = 0;
  std::vector<StreamState::Cursor> cursors_;
  std::vector<SourceCounts> counts_;

  // Of what has been drawn, which runs ahead; a pure function of the counters above.
  int64_t drawn_ = 0;
  std::vector<Place> places_;
  ReadAhead ahead_;
};

}  // namespace veomni::data
