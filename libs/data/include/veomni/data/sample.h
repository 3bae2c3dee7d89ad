// SPDX-License-Identifier: Apache-2.0
/// What a micro-batch is packed from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "veomni/media/features.h"

namespace veomni::data {

/// Where a sample comes from: enough to make it again.
struct SampleRef {
  int32_t source = 0;  ///< index into DataOptions::sources
  int64_t record = 0;  ///< index into the source
  int32_t chunk =
      0;  ///< which part of a text that was split, or which of a record's targets by itself
  int64_t epoch =
      0;  ///< the pass over its source it was drawn in: decides what is drawn anew in each
  bool operator==(const SampleRef&) const = default;
};

/// A picture or clip of a sample: `features->tokens` tokens from `begin` on stand for it.
struct MediaItem {
  std::string modality;  ///< "image", "audio"
  bool target = false;   ///< to be predicted by a decoder; else read by an encoder
  int64_t begin = 0;     ///< the first of its tokens in the sample
  std::shared_ptr<const media::Features> features;
};

/// One sequence of tokens.
struct Sample {
  std::vector<int32_t> ids;
  /// ids where trained, else -100. Not shifted: labels[i] belongs to ids[i]. The first one is never a
  /// target, nothing comes before it.
  std::vector<int32_t> labels;
  /// Stable: a hash of the source's name, the record's index and the chunk. Keys randomness.
  uint64_t id = 0;
  SampleRef ref;
  /// Bytes of the tokens that are targets, special tokens counting 0: what bits per byte divides by.
  int64_t target_bytes = 0;
  /// In the order of their tokens. Their tokens' ids are placeholders and never text targets.
  std::vector<MediaItem> media;

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
};

/// Samples that go through the model as one packed row.
struct MicroBatch {
  std::vector<Sample> samples;
  int64_t num_tokens() const {
    int64_t total = 0;
    for (const Sample& sample : samples) total += sample.size();
    return total;
  }
};

}  // namespace veomni::data
