// SPDX-License-Identifier: Apache-2.0
/// Records to samples: media, template, tokens, labels, length limits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "media_reader.h"
#include "veomni/data/chat_template.h"
#include "veomni/data/data_options.h"
#include "veomni/data/media_processors.h"
#include "veomni/data/sample.h"
#include "veomni/data/source.h"
#include "veomni/data/tokenizer.h"

namespace veomni::data {

/// What one record became.
struct MadeSamples {
  std::vector<Sample> samples;
  bool truncated = false;
  bool split = false;
  bool too_long = false;  ///< left out: samples is empty
};

/// A stable hash of where a sample comes from; the epoch is no part of it.
uint64_t sample_id(const std::string& source_name, const SampleRef& ref);

/// A pure function of the record and the media files it names. Thread-safe.
class SampleMaker {
 public:
  /// @throws ConfigError for a template or media token the tokenizer cannot serve, no tokenizer (needless with
  ///         only_targets), or max_sample_tokens out of range.
  SampleMaker(const DataOptions& options, int64_t micro_batch_tokens, const Tokenizer& tokenizer,
              MediaProcessors processors = {});

  /// Conversations are rendered by the template; a text is its tokens and, with append_eos, the end
  /// token, all trained. A text cut into chunks (long_sample: split) repeats a chunk's last token as the
  /// next chunk's first, so that every token but the text's first is a target exactly once. A conversation is cut before
  /// the first picture or clip that does not fit whole; media that do not fit even without text are too long, whatever
  /// long_sample says.
  /// With only_targets every target (an assistant's media; media alone) that has a decoder is a sample.
  /// @param ref  chunk is set here
  /// @throws BadRecord with the reason alone if nothing in it can be trained.
  MadeSamples make(const Record& record, const std::string& source_name, SampleRef ref) const;

 private:
  RenderedConversation render(const Record& record) const;
  void add_sample(const RenderedConversation& all, size_t begin, size_t end,
                  const std::string& source_name, SampleRef ref, std::vector<Sample>& out) const;
  MadeSamples make_targets(const Record& record, const std::string& source_name,
                           SampleRef ref) const;

  Tokenizer tokenizer_;
  std::unique_ptr<ChatTemplate> template_;  // null with only_targets
  MediaReader media_;
  int64_t limit_;
  bool append_eos_;
  std::string long_sample_;
};

}  // namespace veomni::data
