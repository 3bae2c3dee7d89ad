// SPDX-License-Identifier: Apache-2.0
/// The language model in the middle: tokens in, hidden states out, a head on top.
#pragma once

#include <torch/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "veomni/io/tensor_rule.h"
#include "veomni/model/losses.h"
#include "veomni/nn/module.h"
#include "veomni/nn/sequence.h"

namespace veomni::model {

/// T packed tokens  D model width  V vocabulary
///
/// A Hugging Face-style module: built from a config.json, its tensors described by rules() in the file's own names.
/// Parameters are allocated with `empty` (or on meta); see nn/materialize.h. T == 0 is legal everywhere.
/// Knows nothing of ranks, meshes or sharding.
class Foundation : public nn::Module {
 public:
  /// ids_T [T] int64 -> [T, D].
  virtual torch::Tensor embed(const torch::Tensor& ids_T) = 0;
  /// [T, D] -> hidden states after the final norm [T, D].
  virtual torch::Tensor forward(const torch::Tensor& x_TD, const nn::Sequence& seq) = 0;
  /// [R, D] -> logits [R, V].
  virtual torch::Tensor lm_head(const torch::Tensor& hidden_RD) = 0;
  /// Σ weights[t] · cross-entropy of labels[t] (int64, -100: not counted); never holds [T, V].
  virtual TokenLoss lm_loss(const torch::Tensor& hidden_TD, const torch::Tensor& labels_T,
                            const torch::Tensor& weights_T) = 0;
  /// The cross-entropy of every position [T] without a graph (0 where the label is -100), for evaluation.
  virtual torch::Tensor token_losses(const torch::Tensor& hidden_TD,
                                     const torch::Tensor& labels_T) = 0;

  /// The config.json it was built from, every key kept.
  virtual const nlohmann::json& config() const = 0;
  virtual int64_t hidden_size() const = 0;
  virtual int64_t vocab_size() const = 0;
  /// Rows of SequenceInfo::position_ids: 1, or 3 for M-RoPE (time, height, width).
  virtual int64_t position_axes() const { return 1; }

  /// File tensors <-> parameters, both directions; paths relative to this module.
  virtual io::RuleSet rules() const = 0;

  /// Multiply-adds × 2 of one token's forward through the weights (embedding look-up free), without attention.
  virtual double weight_flops_per_token() const = 0;
  /// FLOPs of attention's two products in forward for a causal document of n tokens.
  virtual double attention_flops(int64_t n) const = 0;
};

}  // namespace veomni::model
