// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "batch_input.h"
#include "veomni/base/error.h"
#include "veomni/data/eval_stream.h"
#include "veomni/generate/generate.h"

namespace veomni::train {

Evaluator::Evaluator(const Recipe& recipe, const data::Tokenizer& tokenizer, Communicator& dp)
    : recipe_(recipe), tokenizer_(tokenizer), dp_(dp) {}

data::LoaderPlan Evaluator::plan() const {
  data::LoaderPlan plan;
  plan.micro_batch_tokens = recipe_.train.micro_batch_tokens;
  plan.dp_rank = dp_.rank();
  plan.dp_size = dp_.size();
  return plan;
}

const std::vector<double>& Evaluator::unigram_nll(int64_t vocab_size) {
  if (!unigram_nll_.empty()) return unigram_nll_;
  VEOMNI_CHECK_CONFIG(!recipe_.data.sources.empty(),
                      "unigram_bits_per_byte is counted on data.sources, and there are none");
  data::EvalStream stream(recipe_.data, plan(), tokenizer_);
  auto counts = torch::zeros({vocab_size}, torch::kLong);
  auto* count = counts.data_ptr<int64_t>();
  while (auto micro_batch = stream.next()) {
    for (const auto& sample : micro_batch->samples) {
      for (int32_t label : sample.labels) {
        if (label >= 0) ++count[label];
      }
    }
  }
  dp_.all_reduce(counts, counts, ReduceOp::kSum)->wait();
  const double total = static_cast<double>(counts.sum().item<int64_t>() + vocab_size);
  for (int64_t i = 0; i < vocab_size; ++i)
    unigram_nll_.push_back(-std::log((static_cast<double>(count[i]) + 1) / total));
  return unigram_nll_;
}

Evaluator::Sums Evaluator::walk(model::OmniModel& model, const EvalSourceOptions& source,
                                bool with_unigram) {
  data::DataOptions options = recipe_.data;
  options.sources = {{source.name, source.path, 1.0, source.format}};
  data::EvalStream stream(options, plan(), tokenizer_, source.max_records);
  const auto* unigram = with_unigram ? &unigram_nll(model.foundation().vocab_size()) : nullptr;
  Sums sums;
  while (auto micro_batch = stream.next()) {
    const auto batch = data::collate(*micro_batch);
    sums.nll += model.token_losses(batch_input(batch)).sum(torch::kDouble).item<double>();
    sums.targets += static_cast<double>(batch.num_loss_tokens);
    for (const auto& sample : micro_batch->samples) {
      sums.bytes += static_cast<double>(sample.target_bytes);
      if (!unigram) continue;
      for (int32_t label : sample.labels) {
        if (label >= 0) sums.unigram_nll += (*unigram)[label];
      }
    }
  }
  auto packed =
      torch::tensor({sums.nll, sums.targets, sums.bytes, sums.unigram_nll}, torch::kDouble);
  dp_.all_reduce(packed, packed, ReduceOp::kSum)->wait();
  const auto* out = packed.data_ptr<double>();
  return {out[0], out[1], out[2], out[3]};
}

std::map<std::string, double> Evaluator::metrics(model::OmniModel& model) {
  std::map<std::string, double> result;
  for (const auto& source : recipe_.eval.sources) {
    const auto asked = [&](const char* metric) {
      return std::count(source.metrics.begin(), source.metrics.end(), metric) > 0;
    };
    const Sums sums = walk(model, source, asked("unigram_bits_per_byte"));
    VEOMNI_CHECK(sums.targets > 0, "eval source ", source.name, " (", source.path,
                 ") has no token to predict");
    const double loss = sums.nll / sums.targets, bits = std::numbers::ln2 * sums.bytes;
    if (asked("loss")) result[source.name + "_loss"] = loss;
    if (asked("perplexity")) result[source.name + "_perplexity"] = std::exp(loss);
    if (asked("bits_per_byte")) result[source.name + "_bits_per_byte"] = sums.nll / bits;
    if (asked("unigram_bits_per_byte"))
      result[source.name + "_unigram_bits_per_byte"] = sums.unigram_nll / bits;
  }
  return result;
}

std::vector<SampleAnswer> Evaluator::answers(model::OmniModel& model) const {
  if (recipe_.eval.samples.empty()) return {};
  const auto chat = data::make_chat_template(recipe_.data.chat_template, tokenizer_);
  std::vector<std::vector<int32_t>> prompts;
  for (const auto& text : recipe_.eval.samples) {
    const data::Message message{"user", text};
    prompts.push_back(chat->render({&message, 1}, true).ids);
  }
  auto options = recipe_.eval.generate;
  options.stop_ids = chat->stop_ids();
  const auto results = generate::generate(model, prompts, options);
  std::vector<SampleAnswer> answers;
  for (size_t i = 0; i < results.size(); ++i) {
    answers.push_back({recipe_.eval.samples[i], tokenizer_.decode(results[i])});
  }
  return answers;
}

std::string evaluation_json(const std::map<std::string, double>& metrics,
                            const std::vector<SampleAnswer>& answers) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, value] : metrics) json[name] = value;
  json["samples"] = nlohmann::ordered_json::array();
  for (const auto& answer : answers)
    json["samples"].push_back({{"prompt", answer.prompt}, {"answer", answer.answer}});
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace veomni::train
