// SPDX-License-Identifier: Apache-2.0
#include "sample_maker.h"

#include <algorithm>
#include <utility>

#include "veomni/base/error.h"
#include "veomni/base/rng.h"

namespace veomni::data {

namespace {
constexpr int32_t kNoTarget = -100;

std::unique_ptr<ChatTemplate> template_for(const DataOptions& options, const Tokenizer& tokenizer,
                                           const MediaProcessors& processors) {
  if (processors.only_targets) return nullptr;
  return make_chat_template(options.chat_template, tokenizer);
}

int64_t media_tokens(const std::vector<MediaItem>& media) {
  int64_t tokens = 0;
  for (const MediaItem& item : media) tokens += item.features->tokens;
  return tokens;
}

// The most tokens up to `limit` that end inside no item, its begin and end tokens included.
size_t cut_before_media(const Rendered& rendered, size_t limit) {
  for (const RenderedMedia& media : rendered.media) {
    const auto first = static_cast<size_t>(media.first), last = static_cast<size_t>(media.last);
    if (first < limit && limit < last) return first;
  }
  return limit;
}

std::string reason_for_nothing(const Record& record, bool truncated, size_t size, int64_t limit) {
  if (truncated) {
    return "nothing to train is left of " + std::to_string(size) + " tokens after cutting to " +
           std::to_string(limit);
  }
  const bool has_assistant =
      std::any_of(record.messages.begin(), record.messages.end(),
                  [](const Message& message) { return message.role == "assistant"; });
  return record.messages.empty() || has_assistant ? "too short: no token to train"
                                                  : "no assistant message, so nothing to train";
}
}  // namespace

uint64_t sample_id(const std::string& source_name, const SampleRef& ref) {
  return hash_name(source_name + '\0' + std::to_string(ref.record) + ':' +
                   std::to_string(ref.chunk));
}

SampleMaker::SampleMaker(const DataOptions& options, int64_t micro_batch_tokens,
                         const Tokenizer& tokenizer, MediaProcessors processors)
    : tokenizer_(tokenizer),
      template_(template_for(options, tokenizer, processors)),
      media_(options, tokenizer, std::move(processors)),
      limit_(options.max_sample_tokens > 0 ? options.max_sample_tokens : micro_batch_tokens),
      append_eos_(options.append_eos),
      long_sample_(options.long_sample) {
  VEOMNI_CHECK_CONFIG(micro_batch_tokens >= 2, "train.micro_batch_tokens=", micro_batch_tokens,
                      " must be at least 2");
  VEOMNI_CHECK_CONFIG(limit_ >= 2 && limit_ <= micro_batch_tokens,
                      "data.max_sample_tokens=", limit_,
                      " must be between 2 and train.micro_batch_tokens=", micro_batch_tokens);
}

RenderedConversation SampleMaker::render(const Record& record) const {
  if (!record.messages.empty()) return media_.render(*template_, record.messages, false);
  RenderedConversation out;
  Rendered& all = out.rendered;
  all.ids = tokenizer_.encode(record.text);
  if (append_eos_ && !all.ids.empty() && tokenizer_.special().eos)
    all.ids.push_back(*tokenizer_.special().eos);
  all.trained.assign(all.ids.size(), 1);
  media_.check_pads(all.ids, {});
  return out;
}

void SampleMaker::add_sample(const RenderedConversation& all, size_t begin, size_t end,
                             const std::string& source_name, SampleRef ref,
                             std::vector<Sample>& out) const {
  const Rendered& rendered = all.rendered;
  Sample sample;
  sample.ref = ref;
  sample.id = sample_id(source_name, ref);
  sample.ids.assign(rendered.ids.begin() + begin, rendered.ids.begin() + end);
  sample.labels.assign(sample.ids.size(), kNoTarget);
  bool has_target = false;
  for (size_t i = 1; i < sample.ids.size(); ++i) {
    if (!rendered.trained[begin + i]) continue;
    has_target = true;
    const int32_t id = sample.labels[i] = sample.ids[i];
    if (!tokenizer_.is_special(id))
      sample.target_bytes += static_cast<int64_t>(tokenizer_.bytes_of(id).size());
  }
  // Only texts are cut into chunks, so the items before `end` are those of this sample.
  for (const MediaItem& item : all.media) {
    if (item.begin >= static_cast<int64_t>(end)) break;
    has_target = has_target || item.target;
    sample.media.push_back(item);
  }
  if (has_target) out.push_back(std::move(sample));
}

MadeSamples SampleMaker::make(const Record& record, const std::string& source_name,
                              SampleRef ref) const {
  if (media_.processors().only_targets) return make_targets(record, source_name, ref);
  if (!record.media.empty())
    throw BadRecord("media without messages or text train a decoder's tokenizer, nothing else");
  const RenderedConversation all = render(record);
  const size_t size = all.rendered.ids.size(), limit = static_cast<size_t>(limit_);
  MadeSamples made;
  made.too_long = (size > limit && long_sample_ == "skip") || media_tokens(all.media) > limit_;
  if (made.too_long) return made;
  made.split = size > limit && long_sample_ == "split" && record.messages.empty();
  made.truncated = size > limit && !made.split;
  ref.chunk = 0;
  const size_t first_end =
      made.truncated ? cut_before_media(all.rendered, limit) : std::min(size, limit);
  add_sample(all, 0, first_end, source_name, ref, made.samples);
  for (size_t begin = limit - 1; made.split && begin + 1 < size; begin += limit - 1) {
    ++ref.chunk;
    add_sample(all, begin, std::min(size, begin + limit), source_name, ref, made.samples);
  }
  if (made.samples.empty())
    throw BadRecord(reason_for_nothing(record, made.truncated, size, limit_));
  return made;
}

MadeSamples SampleMaker::make_targets(const Record& record, const std::string& source_name,
                                      SampleRef ref) const {
  std::vector<const MediaPart*> parts;
  for (const MediaPart& part : record.media) parts.push_back(&part);
  for (const Message& message : record.messages) {
    if (message.role != "assistant") continue;
    for (const MediaPart& part : message.media) parts.push_back(&part);
  }
  MadeSamples made;
  ref.chunk = 0;
  bool any_too_long = false;
  for (const MediaPart* part : parts) {
    if (media_.processors().targets.count(part->modality) == 0) continue;
    auto features = media_.read(*part, true);
    if (features->tokens > limit_) {
      any_too_long = true;
      ++ref.chunk;
      continue;
    }
    Sample sample;
    sample.ref = ref;
    sample.id = sample_id(source_name, ref);
    sample.ids.assign(static_cast<size_t>(features->tokens), 0);
    sample.labels.assign(sample.ids.size(), kNoTarget);
    sample.media.push_back({part->modality, true, 0, std::move(features)});
    made.samples.push_back(std::move(sample));
    ++ref.chunk;
  }
  made.too_long = made.samples.empty() && any_too_long;
  if (!made.samples.empty() || made.too_long) return made;
  throw BadRecord(parts.empty() ? "no media of an assistant and none by itself, so nothing to train"
                                : "none of its targets has a decoder (its first is " +
                                      parts.front()->modality + ")");
}

}  // namespace veomni::data
