// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "batch_input.h"
#include "eval_media.h"
#include "setup.h"
#include "veomni/base/error.h"
#include "veomni/data/eval_stream.h"
#include "veomni/data/prompt.h"
#include "veomni/generate/generate.h"

namespace veomni::train {

namespace {

bool asked(const EvalSourceOptions& source, const char* metric) {
  return std::count(source.metrics.begin(), source.metrics.end(), metric) > 0;
}

bool asked_any(const EvalSourceOptions& source, std::initializer_list<const char*> metrics) {
  return std::any_of(metrics.begin(), metrics.end(),
                     [&](const char* metric) { return asked(source, metric); });
}

}  // namespace

Evaluator::Evaluator(const Recipe& recipe, const data::Tokenizer& tokenizer, Communicator& dp,
                     model::OmniModel& model, std::string directory)
    : recipe_(recipe),
      tokenizer_(tokenizer),
      dp_(dp),
      model_(model),
      directory_(std::move(directory)),
      processors_(make_processors(model, recipe.model)) {
  for (const auto& source : recipe.eval.sources) {
    VEOMNI_CHECK_CONFIG(model.has_foundation() ||
                            !asked_any(source, {"loss", "perplexity", "bits_per_byte",
                                                "unigram_bits_per_byte", "accuracy", "generated"}),
                        recipe.file, ": eval source ", source.name,
                        ": without a foundation there are only reconstructed, "
                        "mean_squared_error and code_perplexity");
    VEOMNI_CHECK_CONFIG(!directory_.empty() || !asked_any(source, {"generated", "reconstructed"}),
                        recipe.file, ": eval source ", source.name,
                        " writes pictures; say where with --out FILE");
  }
}

Evaluator::~Evaluator() = default;

data::LoaderPlan Evaluator::plan() const {
  data::LoaderPlan plan;
  plan.micro_batch_tokens = recipe_.train.micro_batch_tokens;
  plan.dp_rank = dp_.rank();
  plan.dp_size = dp_.size();
  return plan;
}

data::DataOptions Evaluator::data_of(const EvalSourceOptions& source) const {
  data::DataOptions options = recipe_.data;
  options.sources = {{.name = source.name, .path = source.path, .format = source.format}};
  return options;
}

const std::vector<double>& Evaluator::unigram_nll() {
  if (!unigram_nll_.empty()) return unigram_nll_;
  VEOMNI_CHECK_CONFIG(!recipe_.data.sources.empty(),
                      "unigram_bits_per_byte is counted on data.sources, and there are none");
  const int64_t vocab_size = model_.foundation().vocab_size();
  auto counts = torch::zeros({vocab_size}, torch::kLong);
  auto* count = counts.data_ptr<int64_t>();
  data::DataOptions options = recipe_.data;
  // Sources of other losses have other texts.
  std::erase_if(options.sources, [](const auto& source) { return source.loss != "text"; });
  data::EvalStream stream(options, plan(), tokenizer_, 0, processors_);
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

Evaluator::Sums Evaluator::walk(const EvalSourceOptions& source, bool with_unigram) {
  data::EvalStream stream(data_of(source), plan(), tokenizer_, source.max_records, processors_);
  const auto* unigram = with_unigram ? &unigram_nll() : nullptr;
  const int axes = static_cast<int>(model_.foundation().position_axes());
  Sums sums;
  while (auto micro_batch = stream.next()) {
    const auto batch = data::collate(*micro_batch, axes);
    sums.nll += model_.token_losses(batch_input(batch)).sum(torch::kDouble).item<double>();
    sums.targets += static_cast<double>(batch.num_loss_tokens);
    for (const auto& sample : micro_batch->samples) {
      sums.bytes += static_cast<double>(sample.target_bytes);
      if (!unigram) continue;
      for (int32_t label : sample.labels) {
        if (label >= 0) sums.unigram_nll += (*unigram)[label];
      }
    }
  }
  sum_over_ranks(dp_, {&sums.nll, &sums.targets, &sums.bytes, &sums.unigram_nll});
  return sums;
}

void Evaluator::add_losses(const EvalSourceOptions& source, std::map<std::string, double>& result) {
  if (!asked_any(source, {"loss", "perplexity", "bits_per_byte", "unigram_bits_per_byte"})) return;
  const Sums sums = walk(source, asked(source, "unigram_bits_per_byte"));
  VEOMNI_CHECK(sums.targets > 0, "eval source ", source.name, " (", source.path,
               ") has no token to predict");
  const double loss = sums.nll / sums.targets, bits = std::numbers::ln2 * sums.bytes;
  if (asked(source, "loss")) result[source.name + "_loss"] = loss;
  if (asked(source, "perplexity")) result[source.name + "_perplexity"] = std::exp(loss);
  if (asked(source, "bits_per_byte")) result[source.name + "_bits_per_byte"] = sums.nll / bits;
  if (asked(source, "unigram_bits_per_byte"))
    result[source.name + "_unigram_bits_per_byte"] = sums.unigram_nll / bits;
}

void Evaluator::add_generations(const EvalSourceOptions& source,
                                std::map<std::string, double>& result) {
  const MediaEvaluation media{
      recipe_, tokenizer_, model_, processors_, dp_.rank() == 0 ? directory_ : "", exhibits_};
  if (asked(source, "accuracy")) result[source.name + "_accuracy"] = media.accuracy(source);
  if (asked(source, "generated"))
    result[source.name + "_generated"] = static_cast<double>(media.generate_items(source));
  if (!asked_any(source, {"reconstructed", "mean_squared_error", "code_perplexity"})) return;
  const auto tokenizer = media.reconstruct_items(source, asked(source, "reconstructed"));
  if (asked(source, "mean_squared_error"))
    result[source.name + "_mean_squared_error"] = tokenizer.mean_squared_error;
  if (asked(source, "code_perplexity"))
    result[source.name + "_code_perplexity"] = tokenizer.code_perplexity;
}

std::map<std::string, double> Evaluator::metrics(EvalDepth depth) {
  std::map<std::string, double> result;
  exhibits_.clear();
  for (const auto& source : recipe_.eval.sources) {
    add_losses(source, result);
    if (depth == EvalDepth::kAll) add_generations(source, result);
  }
  return result;
}

std::vector<SampleAnswer> Evaluator::answers() {
  if (recipe_.eval.samples.empty()) return {};
  VEOMNI_CHECK_CONFIG(!tokenizer_.empty(), recipe_.file,
                      ": eval.samples need a model that writes text");
  const data::PromptMaker maker(recipe_.data, tokenizer_, processors_);
  std::vector<generate::Prompt> prompts;
  for (const auto& text : recipe_.eval.samples) {
    const data::Message message{"user", text};
    prompts.push_back({maker.make({&message, 1}), {}, prompts.size()});
  }
  const auto results =
      generate::generate(model_, prompts, recipe_.eval.generate, {.stop_ids = maker.stop_ids()});
  std::vector<SampleAnswer> answers;
  for (size_t i = 0; i < results.size(); ++i)
    answers.push_back({recipe_.eval.samples[i], tokenizer_.decode(results[i].text())});
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
