// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/prompt.h"

#include <utility>

#include "media_reader.h"
#include "veomni/base/error.h"

namespace veomni::data {

struct PromptMaker::Impl {
  std::unique_ptr<ChatTemplate> chat;
  MediaReader media;

  int32_t delimiter(const std::string& modality, std::optional<int32_t> MediaTokenIds::*which,
                    const char* key) const {
    const std::optional<int32_t> id = media.tokens_of(modality).*which;
    VEOMNI_CHECK_CONFIG(id, "data.media.", modality, ".", key,
                        " is empty, but generating needs to know it");
    return *id;
  }
};

PromptMaker::PromptMaker(const DataOptions& options, const Tokenizer& tokenizer,
                         MediaProcessors processors)
    : impl_(new Impl{make_chat_template(options.chat_template, tokenizer),
                     MediaReader(options, tokenizer, std::move(processors))}) {}

PromptMaker::~PromptMaker() = default;

Sample PromptMaker::make(std::span<const Message> messages) const {
  RenderedConversation conversation = impl_->media.render(*impl_->chat, messages, true);
  Sample sample;
  sample.ids = std::move(conversation.rendered.ids);
  sample.labels.assign(sample.ids.size(), -100);
  sample.media = std::move(conversation.media);
  return sample;
}

Sample PromptMaker::make_unconditional(std::span<const Message> messages) const {
  return make(without_condition({messages.begin(), messages.end()}));
}

std::vector<int32_t> PromptMaker::stop_ids() const { return impl_->chat->stop_ids(); }

int32_t PromptMaker::begin_token(const std::string& modality) const {
  return impl_->delimiter(modality, &MediaTokenIds::begin, "begin");
}

int32_t PromptMaker::end_token(const std::string& modality) const {
  return impl_->delimiter(modality, &MediaTokenIds::end, "end");
}

}  // namespace veomni::data
