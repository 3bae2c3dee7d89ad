// SPDX-License-Identifier: Apache-2.0
/// The pictures and clips of a record: read, processed, and written in tokens.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "veomni/data/chat_template.h"
#include "veomni/data/data_options.h"
#include "veomni/data/media_processors.h"
#include "veomni/data/sample.h"
#include "veomni/data/tokenizer.h"

namespace veomni::data {

/// Tokens of one modality.
struct MediaTokenIds {
  std::optional<int32_t> begin;
  int32_t pad = 0;
  std::optional<int32_t> end;
};

/// A conversation in tokens.
struct RenderedConversation {
  Rendered rendered;
  std::vector<MediaItem> media;  ///< as in Sample
};

/// Immutable, thread-safe.
class MediaReader {
 public:
  /// @throws ConfigError naming a token that the tokenizer lacks, of a modality that has a processor. With only_targets
  ///         no token is needed, and the tokenizer may be empty.
  MediaReader(const DataOptions& options, const Tokenizer& tokenizer, MediaProcessors processors);

  const MediaProcessors& processors() const { return processors_; }

  /// Reads one picture or clip and prepares it. @throws BadRecord (the reason alone, with the location)
  std::shared_ptr<const media::Features> read(const MediaPart& part, bool target) const;

  /// Reads all media and renders. An assistant's are targets. @throws BadRecord as read(), and for text that holds a pad
  /// token of a modality with a processor: it would stand for nothing
  RenderedConversation render(const ChatTemplate& chat, std::span<const Message> messages,
                              bool add_generation_prompt) const;

  /// @throws BadRecord if these ids hold a pad token outside `media`
  void check_pads(std::span<const int32_t> ids, std::span<const MediaItem> media) const;

  /// @throws ConfigError if the tokenizer lacks one
  MediaTokenIds tokens_of(const std::string& modality) const;

 private:
  const media::Processor& processor_of(const std::string& modality, bool target) const;

  MediaOptions options_;
  int64_t max_media_bytes_;
  Tokenizer tokenizer_;
  MediaProcessors processors_;
  std::map<std::string, MediaTokenIds> ids_;  // of modalities with a processor
};

/// The messages with their text left out but for the assistant's; media and turns stay.
std::vector<Message> without_condition(std::vector<Message> messages);

}  // namespace veomni::data
