// SPDX-License-Identifier: Apache-2.0
/// Records to samples: template, tokens, labels, length limits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "veomni/data/chat_template.h"
#include "veomni/data/data_options.h"
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

/// A pure function of the record.
class SampleMaker {
 public:
  /// @throws ConfigError for a template the tokenizer cannot serve, or max_sample_tokens out of range.
  SampleMaker(const DataOptions& options, int64_t micro_batch_tokens, const Tokenizer& tokenizer);

  /// Conversations are rendered by the template; a text is its tokens and, with append_eos, the end
  /// token, all trained. A text cut into chunks (long_sample: split) repeats a chunk's last token as the
  /// next chunk's first, so that every token but the text's first is a target exactly once.
  /// @param ref  chunk is set here
  /// @throws BadRecord with the reason alone if nothing in it can be trained.
  MadeSamples make(const Record& record, const std::string& source_name, SampleRef ref) const;

 private:
  Rendered render(const Record& record) const;
  void add_sample(const Rendered& all, size_t begin, size_t end, const std::string& source_name,
                  SampleRef ref, std::vector<Sample>& out) const;

  Tokenizer tokenizer_;
  std::unique_ptr<ChatTemplate> template_;
  int64_t limit_;
  bool append_eos_;
  std::string long_sample_;
};

}  // namespace veomni::data
