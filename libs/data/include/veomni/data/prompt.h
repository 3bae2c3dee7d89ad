// SPDX-License-Identifier: Apache-2.0
/// Conversations to what a generation starts from.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "veomni/data/chat_template.h"
#include "veomni/data/data_options.h"
#include "veomni/data/media_processors.h"
#include "veomni/data/sample.h"
#include "veomni/data/source.h"
#include "veomni/data/tokenizer.h"

namespace veomni::data {

/// Thread-safe.
class PromptMaker {
 public:
  /// @throws ConfigError for a template or media token that the tokenizer cannot serve
  PromptMaker(const DataOptions& options, const Tokenizer& tokenizer, MediaProcessors processors);
  ~PromptMaker();

  /// The conversation with the header of an assistant turn behind it. Labels are all -100; id and ref say nothing. Not
  /// cut, whatever its length. Locations of media are relative to the working directory.
  /// @throws BadRecord for media that cannot be read or that no encoder (in an assistant's turn: decoder) reads
  Sample make(std::span<const Message> messages) const;
  /// The same with all text left out but the assistant's, as SourceOptions::drop_condition does in training: what
  /// classifier-free guidance steers away from.
  Sample make_unconditional(std::span<const Message> messages) const;

  std::vector<int32_t> stop_ids() const;
  /// The token that begins, and the one that ends, a target of a modality ("image").
  /// @throws ConfigError if the recipe or tokenizer has none
  int32_t begin_token(const std::string& modality) const;
  int32_t end_token(const std::string& modality) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace veomni::data
