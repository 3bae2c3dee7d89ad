// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/chat_template.h"

#include <utility>

#include "veomni/base/error.h"

namespace veomni::data {

namespace {
// A piece of a rendered conversation.
struct Piece {
  std::string text;
  bool trained;
};

// The ids of consecutive pieces encoded as one text: a token is trained if it starts inside a trained piece.
void append_encoded(const Tokenizer& tokenizer, std::span<const Piece> pieces, Rendered& out) {
  std::string text;
  for (const Piece& piece : pieces) text += piece.text;
  const Encoding encoding = tokenizer.encode_with_ends(text);
  size_t piece = 0;
  int64_t start = 0, piece_end = static_cast<int64_t>(pieces[0].text.size());
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    while (start >= piece_end && piece + 1 < pieces.size()) {
      piece_end += static_cast<int64_t>(pieces[++piece].text.size());
    }
    out.ids.push_back(encoding.ids[i]);
    out.trained.push_back(pieces[piece].trained);
    start = encoding.ends[i];
  }
}

void put(int32_t id, bool trained, Rendered& out) {
  out.ids.push_back(id);
  out.trained.push_back(trained);
}

void append_media(const MediaSpan& span, bool trained, Rendered& out) {
  RenderedMedia media;
  media.first = static_cast<int64_t>(out.ids.size());
  if (span.begin) put(*span.begin, trained, out);
  media.pads = static_cast<int64_t>(out.ids.size());
  out.ids.resize(out.ids.size() + span.tokens, span.pad);
  out.trained.resize(out.ids.size(), 0);
  if (span.end) put(*span.end, trained, out);
  media.last = static_cast<int64_t>(out.ids.size());
  out.media.push_back(media);
}

// What is left of the spans that render() was given.
class Spans {
 public:
  Spans(std::span<const Message> messages, std::span<const MediaSpan> spans) : left_(spans) {
    size_t parts = 0;
    for (const Message& message : messages) parts += message.media.size();
    VEOMNI_CHECK(parts == spans.size(), "a conversation with ", parts, " media was given ",
                 spans.size(), " token spans");
  }
  const MediaSpan& take() {
    const MediaSpan& next = left_.front();
    left_ = left_.subspan(1);
    return next;
  }

 private:
  std::span<const MediaSpan> left_;
};

// A message's content behind `header`, cut by its media.
void append_content(const Tokenizer& tokenizer, const std::string& header, const Message& message,
                    Spans& spans, Rendered& out) {
  const bool trained = message.role == "assistant";
  std::vector<Piece> pieces;
  if (!header.empty()) pieces.push_back({header, false});
  size_t done = 0;
  for (const MediaPart& part : message.media) {
    VEOMNI_CHECK(part.at >= done && part.at <= message.content.size(), part.modality,
                 " stands at byte ", part.at, " of a content of ", message.content.size(),
                 " bytes, behind one at ", done);
    pieces.push_back({message.content.substr(done, part.at - done), trained});
    append_encoded(tokenizer, pieces, out);
    append_media(spans.take(), trained, out);
    pieces.clear();
    done = part.at;
  }
  pieces.push_back({message.content.substr(done), trained});
  append_encoded(tokenizer, pieces, out);
}

std::string content_with_tags(const Message& message) {
  std::string text;
  size_t done = 0;
  for (const MediaPart& part : message.media) {
    text += message.content.substr(done, part.at - done) + "<" + part.modality + ">";
    done = part.at;
  }
  return text + message.content.substr(done);
}

// A template given by what it puts before and after a message's content.
class WrappingTemplate : public ChatTemplate {
 public:
  explicit WrappingTemplate(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  std::string text(std::span<const Message> messages, bool add_generation_prompt) const override {
    std::string text;
    for (const Message& message : messages) {
      text += header(message.role) + content_with_tags(message) + end_of_turn() + after_turn();
    }
    if (add_generation_prompt) text += header("assistant");
    return text;
  }

 protected:
  virtual std::string header(const std::string& role) const = 0;
  virtual std::string end_of_turn() const = 0;
  virtual std::string after_turn() const = 0;

  Tokenizer tokenizer_;
};

class QwenTemplate : public WrappingTemplate {
 public:
  explicit QwenTemplate(const Tokenizer& tokenizer)
      : WrappingTemplate(tokenizer),
        start_(required("<|im_start|>")),
        end_(required("<|im_end|>")) {}

  // Special tokens cut the text, so what lies between two of them is encoded on its own, header and content as one.
  Rendered render(std::span<const Message> messages, bool add_generation_prompt,
                  std::span<const MediaSpan> media) const override {
    Rendered out;
    Spans spans(messages, media);
    for (const Message& message : messages) {
      const bool trained = message.role == "assistant";
      put(start_, false, out);
      append_content(tokenizer_, message.role + "\n", message, spans, out);
      put(end_, trained, out);
      const Piece newline[] = {{"\n", false}};
      append_encoded(tokenizer_, newline, out);
    }
    if (add_generation_prompt) {
      put(start_, false, out);
      const Piece role[] = {{"assistant\n", false}};
      append_encoded(tokenizer_, role, out);
    }
    return out;
  }

  std::vector<int32_t> stop_ids() const override { return {end_}; }

 protected:
  std::string header(const std::string& role) const override {
    return "<|im_start|>" + role + "\n";
  }
  std::string end_of_turn() const override { return "<|im_end|>"; }
  std::string after_turn() const override { return "\n"; }

 private:
  int32_t required(const char* token) const {
    const auto id = tokenizer_.token_to_id(token);
    VEOMNI_CHECK_CONFIG(id, "template 'qwen' needs the token ", token,
                        ", which the tokenizer does not have; "
                        "use template 'plain' or another tokenizer");
    return *id;
  }
  int32_t start_, end_;
};

class PlainTemplate : public WrappingTemplate {
 public:
  using WrappingTemplate::WrappingTemplate;

  Rendered render(std::span<const Message> messages, bool /*add_generation_prompt*/,
                  std::span<const MediaSpan> media) const override {
    Rendered out;
    Spans spans(messages, media);
    // Turns are encoded one by one, so that a prompt's ids are a prefix of the whole conversation's.
    for (const Message& message : messages) {
      const bool trained = message.role == "assistant";
      append_content(tokenizer_, "", message, spans, out);
      const Piece end[] = {{"\n", trained}};
      append_encoded(tokenizer_, end, out);
    }
    return out;
  }

  std::vector<int32_t> stop_ids() const override { return tokenizer_.encode("\n"); }

 protected:
  std::string header(const std::string&) const override { return ""; }
  std::string end_of_turn() const override { return "\n"; }
  std::string after_turn() const override { return ""; }
};
}  // namespace

void register_chat_templates(Registry<ChatTemplate, const Tokenizer&>& registry) {
  registry.add(
      "qwen", [](const Tokenizer& tokenizer) { return std::make_unique<QwenTemplate>(tokenizer); });
  registry.add("plain", [](const Tokenizer& tokenizer) {
    return std::make_unique<PlainTemplate>(tokenizer);
  });
}

namespace {
Registry<ChatTemplate, const Tokenizer&> all_templates() {
  Registry<ChatTemplate, const Tokenizer&> registry("chat template");
  register_chat_templates(registry);
  return registry;
}
}  // namespace

std::unique_ptr<ChatTemplate> make_chat_template(const std::string& name,
                                                 const Tokenizer& tokenizer) {
  VEOMNI_CHECK_CONFIG(!tokenizer.empty(), "template '", name,
                      "' needs a tokenizer and there is none; set data.tokenizer");
  return all_templates().make(name, tokenizer);
}

std::vector<std::string> chat_template_names() { return all_templates().names(); }

}  // namespace veomni::data
