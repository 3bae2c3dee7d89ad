// SPDX-License-Identifier: Apache-2.0
#include "media_reader.h"

#include <utility>

#include "veomni/base/error.h"
#include "veomni/data/media_location.h"
#include "veomni/data/source.h"

namespace veomni::data {

namespace {
const MediaTokens* tokens_named(const MediaOptions& options, const std::string& modality) {
  if (modality == "image") return &options.image;
  if (modality == "audio") return &options.audio;
  return nullptr;
}

// A processor's mistake, not the file's.
void check_features(const media::Features& features, const std::string& what) {
  const media::Grid& lie = features.token_grid;
  VEOMNI_CHECK(static_cast<int64_t>(features.values.size()) == features.rows * features.width, what,
               ": its processor made ", features.values.size(), " values for ", features.rows,
               " rows of ", features.width);
  VEOMNI_CHECK(features.tokens >= 0 && lie[0] * lie[1] * lie[2] == features.tokens, what,
               ": its processor made ", features.tokens, " tokens that lie as ", lie[0], "x",
               lie[1], "x", lie[2]);
}
}  // namespace

MediaReader::MediaReader(const DataOptions& options, const Tokenizer& tokenizer,
                         MediaProcessors processors)
    : options_(options.media),
      max_media_bytes_(options.max_media_bytes),
      tokenizer_(tokenizer),
      processors_(std::move(processors)) {
  if (processors_.only_targets) return;
  for (const auto& [modality, processor] : processors_.inputs) ids_[modality] = tokens_of(modality);
  for (const auto& [modality, processor] : processors_.targets) {
    const MediaTokenIds& ids = ids_[modality] = tokens_of(modality);
    VEOMNI_CHECK_CONFIG(ids.begin, "data.media.", modality,
                        ".begin is empty, but a decoder's target needs a token before it: the one "
                        "that its first code is predicted from");
  }
}

MediaTokenIds MediaReader::tokens_of(const std::string& modality) const {
  const MediaTokens* tokens = tokens_named(options_, modality);
  VEOMNI_CHECK_CONFIG(tokens, "no tokens are known for media of modality '", modality,
                      "' (known: image, audio)");
  const auto id_of = [&](const char* key, const std::string& token) {
    const auto id = tokenizer_.token_to_id(token);
    VEOMNI_CHECK_CONFIG(id, "data.media.", modality, ".", key, " is '", token,
                        "', which the tokenizer does not have; name one that it has, or train it "
                        "with --special '",
                        token, "'");
    return *id;
  };
  MediaTokenIds ids;
  VEOMNI_CHECK_CONFIG(!tokens->pad.empty(), "data.media.", modality, ".pad is empty");
  ids.pad = id_of("pad", tokens->pad);
  if (!tokens->begin.empty()) ids.begin = id_of("begin", tokens->begin);
  if (!tokens->end.empty()) ids.end = id_of("end", tokens->end);
  return ids;
}

const media::Processor& MediaReader::processor_of(const std::string& modality, bool target) const {
  const auto& processors = target ? processors_.targets : processors_.inputs;
  const auto found = processors.find(modality);
  if (found != processors.end()) return *found->second;
  const std::string part = target ? "decoder" : "encoder";
  throw BadRecord("no " + part + " for '" + modality + "'; add model." + part + "s." + modality +
                  (target ? " (media of the assistant are targets)" : ""));
}

std::shared_ptr<const media::Features> MediaReader::read(const MediaPart& part, bool target) const {
  const media::Processor& processor = processor_of(part.modality, target);
  const std::string what = part.modality + " " + describe_location(part.location);
  auto features = std::make_shared<media::Features>();
  try {
    *features = processor.process(read_location(part.location, max_media_bytes_), what);
  } catch (const media::BadMedia& bad) {
    throw BadRecord(bad.what());
  } catch (const BadRecord& bad) {
    throw BadRecord(what + ": " + bad.what());
  }
  check_features(*features, what);
  if (features->tokens == 0) throw BadRecord(what + ": too small, it gives no token");
  return features;
}

RenderedConversation MediaReader::render(const ChatTemplate& chat,
                                         std::span<const Message> messages,
                                         bool add_generation_prompt) const {
  RenderedConversation out;
  std::vector<MediaSpan> spans;
  for (const Message& message : messages) {
    for (const MediaPart& part : message.media) {
      const bool target = message.role == "assistant";
      auto features = read(part, target);
      const MediaTokenIds& ids = ids_.at(part.modality);
      spans.push_back({ids.begin, ids.pad, features->tokens, ids.end});
      out.media.push_back({part.modality, target, 0, std::move(features)});
    }
  }
  out.rendered = chat.render(messages, add_generation_prompt, spans);
  for (size_t i = 0; i < out.media.size(); ++i) out.media[i].begin = out.rendered.media[i].pads;
  check_pads(out.rendered.ids, out.media);
  return out;
}

void MediaReader::check_pads(std::span<const int32_t> ids, std::span<const MediaItem> media) const {
  if (ids_.empty()) return;
  auto item = media.begin();
  for (int64_t i = 0; i < static_cast<int64_t>(ids.size()); ++i) {
    if (item != media.end() && i == item->begin) {
      i += item->features->tokens - 1;
      ++item;
      continue;
    }
    for (const auto& [modality, tokens] : ids_) {
      if (ids[i] != tokens.pad) continue;
      throw BadRecord("its text holds " + *tokenizer_.id_to_token(tokens.pad) +
                      ", which only stands for " + modality + " that is there");
    }
  }
}

std::vector<Message> without_condition(std::vector<Message> messages) {
  for (Message& message : messages) {
    if (message.role == "assistant") continue;
    message.content.clear();
    for (MediaPart& part : message.media) part.at = 0;
  }
  return messages;
}

}  // namespace veomni::data
