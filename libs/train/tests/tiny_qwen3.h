// SPDX-License-Identifier: Apache-2.0
/// A Qwen3 of a few thousand weights and micro-batches for it, a function of (rank, number) only.
#pragma once

#include <string>
#include <vector>

#include "veomni/model/build.h"

namespace veomni::train::tiny {

inline model::ModelOptions model_options(bool tied) {
  model::ModelOptions options;
  // 61 rows do not divide by 2, 3 or 4; a norm has fewer rows per head than some ranks need.
  options.foundation.config = YAML::Load(
      "{model_type: qwen3, vocab_size: 61, hidden_size: 24, intermediate_size: 40, "
      "num_hidden_layers: 2, "
      "num_attention_heads: 4, num_key_value_heads: 2, head_dim: 6, initializer_range: 0.2, "
      "tie_word_embeddings: " +
      std::string(tied ? "true}" : "false}"));
  return options;
}

// Micro-batch k of rank r: documents whose ids and lengths are a function of (r, k) only.
inline model::ModelInput micro_batch(int rank, int k, bool empty) {
  const std::vector<int64_t> lengths =
      empty ? std::vector<int64_t>{} : std::vector<int64_t>{3 + rank, 1, 5 + 2 * k};
  auto seq = nn::make_sequence(lengths);
  const int64_t T = seq->num_tokens();
  auto ids = (torch::arange(T) * 7 + rank * 13 + k * 5) % 61, labels = (ids * 3 + 1) % 61;
  labels = torch::where(torch::arange(T) % 4 == 3, torch::full_like(labels, -100), labels);
  return {.ids_T = ids, .labels_T = labels, .seq = seq};
}

inline void backward(model::OmniModel& model, model::ModelInput input, double scale) {
  input.weights_T = torch::full({input.labels_T.size(0)}, scale, torch::kDouble);
  model.losses(input).total.backward();
}

}  // namespace veomni::train::tiny
