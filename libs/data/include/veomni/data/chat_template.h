// SPDX-License-Identifier: Apache-2.0
/// Conversations to token ids and what of them is trained.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "veomni/base/registry.h"
#include "veomni/data/tokenizer.h"

namespace veomni::data {

/// A picture or clip in a message.
struct MediaPart {
  std::string modality;  ///< "image", "audio"
  /// A file's path or a base64 data: URI.
  std::string location;
  size_t at = 0;  ///< stands before this byte of the message's content
  bool operator==(const MediaPart&) const = default;
};

struct Message {
  std::string role;  ///< system, user, assistant; others are rendered like user
  std::string content;
  std::vector<MediaPart> media = {};  ///< in order; an assistant's are targets
  bool operator==(const Message&) const = default;
};

/// How one MediaPart is written: begin, `tokens` times pad, end.
struct MediaSpan {
  std::optional<int32_t> begin;
  int32_t pad = 0;
  int64_t tokens = 0;
  std::optional<int32_t> end;
};

/// Where a part went in Rendered::ids. [first, last) takes in begin and end; the pads are [pads, pads + tokens).
struct RenderedMedia {
  int64_t first = 0, last = 0;
  int64_t pads = 0;
  bool operator==(const RenderedMedia&) const = default;
};

/// A conversation as the model sees it. trained[i] is 1 where ids[i] is something to predict.
struct Rendered {
  std::vector<int32_t> ids;
  std::vector<uint8_t> trained;
  std::vector<RenderedMedia> media = {};  ///< a MediaPart each, in the messages' order
};

/// A way of writing conversations. Thread-safe.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  /// The conversation as text; a picture is written <image>, a clip <audio>.
  virtual std::string text(std::span<const Message> messages, bool add_generation_prompt) const = 0;
  /// Media cut the text as special tokens do: what stands before and behind one is encoded by itself.
  /// @param add_generation_prompt  end with the header of an assistant turn that is to be generated
  /// @param spans  one for each MediaPart of all messages, in order. @throws Error for another number
  virtual Rendered render(std::span<const Message> messages, bool add_generation_prompt = false,
                          std::span<const MediaSpan> spans = {}) const = 0;
  /// Ids that end an assistant turn; generation stops at them.
  virtual std::vector<int32_t> stop_ids() const = 0;
};

/// qwen   `<|im_start|>role\ncontent<|im_end|>\n` a message, no default system prompt, no thinking
///        block: the ids of encoding text() as a whole, which is what apply_chat_template of the
///        Qwen2.5 and Qwen3-Instruct models gives for a conversation with a system message. Trained:
///        the assistant's content and its `<|im_end|>`; not the header and not the newline after
///        `<|im_end|>`, which a generation never reaches. A token that joins the header's newline
///        with a newline the content starts with is not trained. Of an assistant's media, begin and
///        end are trained (the model decides to draw), pads never.
/// plain  `content\n` a message, each encoded on its own; trained: the assistant's content and its
///        newline. Needs no special token. stop_ids is the newline's token.
///
/// Text of a message that reads like a special token becomes that token, as in transformers.
void register_chat_templates(Registry<ChatTemplate, const Tokenizer&>& registry);

/// @throws ConfigError for an unknown name (known ones listed) or a tokenizer that lacks a token the
///         template needs.
std::unique_ptr<ChatTemplate> make_chat_template(const std::string& name,
                                                 const Tokenizer& tokenizer);
std::vector<std::string> chat_template_names();

}  // namespace veomni::data
