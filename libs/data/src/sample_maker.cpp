// SPDX-License-Identifier: Apache-2.0
#include "sample_maker.h"

#include <algorithm>

#include "veomni/base/error.h"
#include "veomni/base/rng.h"

namespace veomni::data {

namespace {
constexpr int32_t kNoTarget = -100;

uint64_t sample_id(const std::string& source_name, const SampleRef& ref) {
  return hash_name(source_name + '\0' + std::to_string(ref.record) + ':' +
                   std::to_string(ref.chunk));
}
}  // namespace

SampleMaker::SampleMaker(const DataOptions& options, int64_t micro_batch_tokens,
                         const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      template_(make_chat_template(options.chat_template, tokenizer)),
      limit_(options.max_sample_tokens > 0 ? options.max_sample_tokens : micro_batch_tokens),
      append_eos_(options.append_eos),
      long_sample_(options.long_sample) {
  VEOMNI_CHECK_CONFIG(micro_batch_tokens >= 2, "train.micro_batch_tokens=", micro_batch_tokens,
                      " must be at least 2");
  VEOMNI_CHECK_CONFIG(limit_ >= 2 && limit_ <= micro_batch_tokens,
                      "data.max_sample_tokens=", limit_,
                      " must be between 2 and train.micro_batch_tokens=", micro_batch_tokens);
}

Rendered SampleMaker::render(const Record& record) const {
  if (!record.messages.empty()) return template_->render(record.messages);
  Rendered all;
  all.ids = tokenizer_.encode(record.text);
  if (append_eos_ && !all.ids.empty() && tokenizer_.special().eos)
    all.ids.push_back(*tokenizer_.special().eos);
  all.trained.assign(all.ids.size(), 1);
  return all;
}

void SampleMaker::add_sample(const Rendered& all, size_t begin, size_t end,
                             const std::string& source_name, SampleRef ref,
                             std::vector<Sample>& out) const {
  Sample sample;
  sample.ref = ref;
  sample.id = sample_id(source_name, ref);
  sample.ids.assign(all.ids.begin() + begin, all.ids.begin() + end);
  sample.labels.assign(sample.ids.size(), kNoTarget);
  bool has_target = false;
  for (size_t i = 1; i < sample.ids.size(); ++i) {
    if (!all.trained[begin + i]) continue;
    has_target = true;
    const int32_t id = sample.labels[i] = sample.ids[i];
    if (!tokenizer_.is_special(id))
      sample.target_bytes += static_cast<int64_t>(tokenizer_.bytes_of(id).size());
  }
  if (has_target) out.push_back(std::move(sample));
}

MadeSamples SampleMaker::make(const Record& record, const std::string& source_name,
                              SampleRef ref) const {
  const Rendered all = render(record);
  const size_t size = all.ids.size(), limit = static_cast<size_t>(limit_);
  MadeSamples made;
  if (size > limit && long_sample_ == "skip") {
    made.too_long = true;
    return made;
  }
  made.split = size > limit && long_sample_ == "split" && record.messages.empty();
  made.truncated = size > limit && !made.split;
  ref.chunk = 0;
  add_sample(all, 0, std::min(size, limit), source_name, ref, made.samples);
  for (size_t begin = limit - 1; made.split && begin + 1 < size; begin += limit - 1) {
    ++ref.chunk;
    add_sample(all, begin, std::min(size, begin + limit), source_name, ref, made.samples);
  }
  if (made.samples.empty()) {
    const bool has_assistant =
        std::any_of(record.messages.begin(), record.messages.end(),
                    [](const Message& message) { return message.role == "assistant"; });
    throw BadRecord(made.truncated ? "nothing to train is left of " + std::to_string(size) +
                                         " tokens after cutting to " + std::to_string(limit)
                    : record.messages.empty() || has_assistant
                        ? "too short: no token to train"
                        : "no assistant message, so nothing to train");
  }
  return made;
}

}  // namespace veomni::data
