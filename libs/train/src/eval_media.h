// SPDX-License-Identifier: Apache-2.0
/// Evaluations that read, draw or rebuild media.
#pragma once

#include <string>
#include <vector>

#include "veomni/data/media_processors.h"
#include "veomni/data/prompt.h"
#include "veomni/data/source.h"
#include "veomni/data/tokenizer.h"
#include "veomni/generate/generate.h"
#include "veomni/model/omni_model.h"
#include "veomni/train/evaluate.h"
#include "veomni/train/recipe.h"

namespace veomni::train {

/// Every rank walks all records: where a model is sharded, all ranks must run the same steps.
struct MediaEvaluation {
  const Recipe& recipe;
  const data::Tokenizer& tokenizer;
  model::OmniModel& model;
  const data::MediaProcessors& processors;
  std::string
      directory;  ///< files go below <directory>/pictures/<source>; "": this rank writes none
  std::vector<EvalExhibit>& exhibits;

  /// Share of records whose free generation is the assistant's text.
  double accuracy(const EvalSourceOptions& source) const;
  /// Draws source.repeat items for each record's prompt; returns how many.
  int64_t generate_items(const EvalSourceOptions& source) const;

  struct Reconstruction {
    double mean_squared_error = 0, code_perplexity = 0;
  };
  /// What a decoder's tokenizer makes of the assistant's media.
  Reconstruction reconstruct_items(const EvalSourceOptions& source, bool write) const;
};

/// How items of each modality that can be drawn are begun and ended. @throws ConfigError for a missing token
std::map<std::string, generate::MediaTokens> media_tokens(model::OmniModel& model,
                                                          const data::PromptMaker& maker);

/// The files of generated codes, one a generation that has some; "" where it has none.
std::vector<std::vector<std::byte>> draw_files(model::OmniModel& model,
                                               const data::MediaProcessors& processors,
                                               const std::string& modality,
                                               const std::vector<generate::Generation>& results);

}  // namespace veomni::train
