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
#include "veomni/data/media_processors.h"
#include "veomni/data/tokenizer.h"
#include "veomni/model/omni_model.h"
#include "veomni/train/recipe.h"

namespace veomni::train {

/// A question of eval.samples and the model's answer.
struct SampleAnswer {
  std::string prompt, answer;
};

/// A picture or sound an evaluation read or made, for the report.
struct EvalExhibit {
  std::string source;  ///< of eval.sources
  std::string mime, bytes;
  std::string caption;
};

/// Which metrics an evaluation computes: those that need a generation take longer than all others together.
enum class EvalDepth { kLosses, kAll };

class Evaluator {
 public:
  /// @param tokenizer  empty where the recipe has no text
  /// @param dp         the ranks that share the evaluation data
  /// @param directory  where `generated` and `reconstructed` put their files, below pictures/; "": refused
  Evaluator(const Recipe& recipe, const data::Tokenizer& tokenizer, Communicator& dp,
            model::OmniModel& model, std::string directory);
  ~Evaluator();

  /// Every metric of every source, by "<source>_<metric>". Collective; equal on all ranks.
  ///
  /// With nll the summed cross-entropy of the text targets in nats: loss = nll / targets, perplexity = exp(loss),
  /// bits_per_byte = nll / ln 2 / bytes of the targets (special tokens count 0 bytes, their nll counts).
  /// unigram_bits_per_byte is the same for p(token) = (count + 1) / (total + V), counted on data.sources' targets.
  /// accuracy: share of records whose freely generated answer is the assistant's text, white space at the ends aside.
  /// mean_squared_error: of a tokenizer's reconstructions, over all feature values; code_perplexity: exp of the
  /// entropy of its codes.
  std::map<std::string, double> metrics(EvalDepth depth = EvalDepth::kAll);

  /// Answers to eval.samples. Collective.
  std::vector<SampleAnswer> answers();

  /// What the last metrics() showed, a few items a source.
  const std::vector<EvalExhibit>& exhibits() const { return exhibits_; }

  bool empty() const { return recipe_.eval.sources.empty() && recipe_.eval.samples.empty(); }

 private:
  struct Sums {
    double nll = 0, targets = 0, bytes = 0, unigram_nll = 0;
  };
  Sums walk(const EvalSourceOptions& source, bool with_unigram);
  void add_losses(const EvalSourceOptions& source, std::map<std::string, double>& result);
  void add_generations(const EvalSourceOptions& source, std::map<std::string, double>& result);
  data::LoaderPlan plan() const;
  data::DataOptions data_of(const EvalSourceOptions& source) const;
  const std::vector<double>& unigram_nll();

  const Recipe& recipe_;
  const data::Tokenizer& tokenizer_;
  Communicator& dp_;
  model::OmniModel& model_;
  std::string directory_;
  data::MediaProcessors processors_;
  std::vector<double> unigram_nll_;  // by token id; counted once, on first use
  std::vector<EvalExhibit> exhibits_;
};

/// `eval.json`: the metrics, then "samples": [{"prompt", "answer"}]. Two equal models give equal bytes.
std::string evaluation_json(const std::map<std::string, double>& metrics,
                            const std::vector<SampleAnswer>& answers);

}  // namespace veomni::train
