// SPDX-License-Identifier: Apache-2.0
/// Turns one modality into tokens the foundation predicts, and predicted tokens back into media.
#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "veomni/io/tensor_rule.h"
#include "veomni/media/processor.h"
#include "veomni/model/losses.h"
#include "veomni/nn/module.h"

namespace veomni::model {

using media::Grid;

/// What the foundation is given and what it is to predict of the items of a batch.
struct Encoded {
  torch::Tensor codes_R;    ///< int64, without gradient
  torch::Tensor embeds_RD;  ///< inserted at the items' tokens
};

/// N items  P feature rows of all items  F features a row  R = sum of num_tokens  C codes  D the foundation's width
///
/// Two halves. The *tokenizer* (media <-> codes) is trained alone, by a recipe without a foundation; the *head*
/// (embedding of codes, aligner, classifier over codes) is trained with a foundation and exists only beside one.
/// A Hugging Face-style module, as Foundation is. Knows nothing of ranks, meshes or sharding. Zero items are legal
/// everywhere and keep every parameter that trains in the graph.
class Decoder : public nn::Module {
 public:
  // The tokenizer.
  /// features [P, F] in the parameters' dtype -> codes [R] int64. No graph.
  virtual torch::Tensor encode(const torch::Tensor& features_PF,
                               const std::vector<Grid>& grids) = 0;
  /// codes [R] -> media values [P, F], no graph: what Processor::postprocess takes.
  virtual torch::Tensor lm_generate(const torch::Tensor& codes_R,
                                    const std::vector<Grid>& grids) = 0;
  /// What it makes of its own codes, straight-through (the gradient of the quantised latents goes to the latents).
  virtual torch::Tensor reconstruct(const torch::Tensor& features_PF,
                                    const std::vector<Grid>& grids) = 0;
  /// The losses that train the tokenizer, by name, each summed over elements and multiplied by `scale` (1 / items of
  /// the step, over all ranks and micro-batches), so that they SUM.
  /// @param quantize  false: a plain autoencoder, whose codebook terms are zeros that keep the graph; what training
  ///                  begins with, so that codes can be taken from latents that mean something
  virtual std::map<std::string, torch::Tensor> tokenizer_losses(const torch::Tensor& features_PF,
                                                                const std::vector<Grid>& grids,
                                                                double scale, bool quantize) = 0;
  /// The vectors that codes are looked up for, as the look-up sees them [R, E]; no graph.
  virtual torch::Tensor latents(const torch::Tensor& features_PF,
                                const std::vector<Grid>& grids) = 0;
  /// [C, E].
  virtual nn::Parameter codebook() = 0;

  // The head.
  /// Tokens to predict and embeddings to insert for target media.
  Encoded lm_encode(const torch::Tensor& features_PF, const std::vector<Grid>& grids) {
    auto codes_R = encode(features_PF, grids);
    return {codes_R, lm_embed(codes_R)};
  }
  /// A predicted code -> the next input embedding. [R] -> [R, D].
  virtual torch::Tensor lm_embed(const torch::Tensor& codes_R) = 0;
  /// Hidden states [R, D] -> logits over codes [R, C].
  virtual torch::Tensor lm_head(const torch::Tensor& hidden_RD) = 0;
  /// Σ weights[r] · cross-entropy of codes[r] under lm_head(hidden[r]).
  virtual TokenLoss lm_loss(const torch::Tensor& hidden_RD, const torch::Tensor& codes_R,
                            const torch::Tensor& weights_R) = 0;

  virtual int64_t feature_width() const = 0;
  virtual int64_t num_codes() const = 0;
  /// D, the width of the hidden states its head reads and of the embeddings it makes; 0 without a head.
  virtual int64_t lm_width() const = 0;
  /// Codes of one item.
  virtual int64_t num_tokens(const Grid& grid) const = 0;
  /// The extents of what it draws when nothing else is said.
  virtual Grid default_grid() const = 0;

  virtual const nlohmann::json& config() const = 0;
  virtual io::RuleSet rules() const = 0;
  /// Whether a parameter (path relative to this module) belongs to the tokenizer (else: to the head).
  virtual bool is_tokenizer(const std::string& parameter) const = 0;
  /// Of the head: whether it is the embedding of codes, which `train: head` leaves as it is.
  virtual bool is_code_embedding(const std::string& parameter) const = 0;
  virtual std::unique_ptr<media::Processor> make_processor(
      const nlohmann::json& preprocessor) const = 0;

  /// FLOPs of one forward of the tokenizer's encoder and of its decoder, an item; and of the head, a token.
  struct Flops {
    double encode = 0, decode = 0, head_per_token = 0;
  };
  virtual Flops flops(const Grid& grid) const = 0;
};

}  // namespace veomni::model
