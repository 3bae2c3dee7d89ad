// SPDX-License-Identifier: Apache-2.0
/// One step of all live sequences as one packed row.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "veomni/data/sample.h"
#include "veomni/model/omni_model.h"

namespace veomni::generate {

/// A sequence that still runs, and what the model has not read of it yet.
struct Sequence {
  size_t prompt = 0;       ///< whose answer it is
  bool is_shadow = false;  ///< reads without the user's text; nothing is drawn for it

  std::string drawing;  ///< modality of the item being drawn; "": text
  int64_t codes_left = 0;
  int64_t text_drawn = 0;
  uint64_t drawn = 0;  ///< tokens and codes: keys the draws
  bool finished = false;

  void read_prompt(const data::Sample& sample) { unread_prompt = &sample; }
  void read_token(int32_t id) { unread.push_back({"", id}); }
  void read_code(const std::string& modality, int32_t code) { unread.push_back({modality, code}); }

  struct Token {
    std::string code_of;  ///< a modality; "": a text token
    int32_t id;
  };
  const data::Sample* unread_prompt = nullptr;  ///< comes before `unread`
  std::vector<Token> unread;
  int64_t next_position = 0;
  bool is_cached = false;  ///< the model has read some of it
};

/// What follows each sequence's last token, in the sequences' order.
class StepLogits {
 public:
  /// Logits over text tokens, or over codes where the sequence is drawing.
  std::span<const float> of(size_t sequence) const { return rows_[sequence]; }

 private:
  friend StepLogits step(model::OmniModel&, std::vector<Sequence>&);
  std::vector<torch::Tensor> keep_;
  std::vector<std::span<const float>> rows_;
};

/// Runs the model over everything unread and marks it read.
StepLogits step(model::OmniModel& model, std::vector<Sequence>& live);

}  // namespace veomni::generate
