// SPDX-License-Identifier: Apache-2.0
/// How a recipe's `eval` section judges a model: during training, at its end, and by `veomni eval`.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "veomni/comm/communicator.h"
#include "veomni/data/chat_template.h"
#include "veomni/data/loader.h"
#include "veomni/data/tokenizer.h"
#include "veomni/model/omni_model.h"
#include "veomni/train/recipe.h"

namespace veomni::train {

/// A question of eval.samples and the model's answer.
struct SampleAnswer {
  std::string prompt, answer;
};

class Evaluator {
 public:
  /// @param dp  the ranks that share the evaluation data
  Evaluator(const Recipe& recipe, const data::Tokenizer& tokenizer, Communicator& dp);

  /// Every metric of every source, by "<source>_<metric>". Collective; equal on all ranks.
  ///
  /// With nll the summed cross-entropy of the targets in nats: loss = nll / targets, perplexity = exp(loss),
  /// bits_per_byte = nll / ln 2 / bytes of the targets (special tokens count 0 bytes, their nll counts).
  /// unigram_bits_per_byte is the same for p(token) = (count + 1) / (total + V), counted on data.sources' targets.
  std::map<std::string, double> metrics(model::OmniModel& model);

  /// Answers to eval.samples. Collective.
  std::vector<SampleAnswer> answers(model::OmniModel& model) const;

  bool empty() const { return recipe_.eval.sources.empty() && recipe_.eval.samples.empty(); }

 private:
  struct Sums {
    double nll = 0, targets = 0, bytes = 0, unigram_nll = 0;
  };
  Sums walk(model::OmniModel& model, const EvalSourceOptions& source, bool with_unigram);
  data::LoaderPlan plan() const;
  const std::vector<double>& unigram_nll(int64_t vocab_size);

  const Recipe& recipe_;
  const data::Tokenizer& tokenizer_;
  Communicator& dp_;
  std::vector<double> unigram_nll_;  // by token id; counted once, on first use
};

/// `eval.json`: the metrics, then "samples": [{"prompt", "answer"}]. Two equal models give equal bytes.
std::string evaluation_json(const std::map<std::string, double>& metrics,
                            const std::vector<SampleAnswer>& answers);

}  // namespace veomni::train
