// SPDX-License-Identifier: Apache-2.0
/// Encoders, a foundation and decoders, plugged together by modality name. The root Unit of every job.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "veomni/model/decoder.h"
#include "veomni/model/encoder.h"
#include "veomni/model/foundation.h"
#include "veomni/nn/embed_scatter.h"
#include "veomni/nn/layers.h"
#include "veomni/nn/unit.h"

namespace veomni::model {

/// All items of one modality in a packed row.
struct MediaInput {
  torch::Tensor features_PF;  ///< any floating dtype; undefined: no items
  std::vector<Grid> grids;    ///< an item each
  nn::Routes routes;          ///< tokens_R: the rows of the sequence that stand for them
  torch::Tensor weights_R;    ///< targets: what each code's loss is multiplied with
};

/// Codes already drawn, to be embedded at their tokens (generation).
struct CodeInput {
  torch::Tensor codes_R;
  torch::Tensor tokens_R;
};

/// T packed tokens  R rows asked for  V vocabulary  C codes
struct ModelInput {
  torch::Tensor ids_T;  ///< int64; what stands at media tokens is not read
  torch::Tensor
      labels_T;  ///< int64, already shifted: the target of each position, -100 where none; may be undefined
  torch::Tensor weights_T;  ///< what each position's loss is multiplied with, on the CPU
  nn::Sequence seq;
  std::map<std::string, MediaInput> inputs;  ///< for encoders, by modality
  std::map<std::string, MediaInput>
      targets;  ///< for decoders; the token before an item's first is never media's
  std::map<std::string, CodeInput> codes;
  /// Every encoder and decoder runs, whether it has items or not, because other ranks' may. A caller whose ranks all
  /// have the same input may leave the absent ones out.
  bool skip_absent = false;
};

struct Losses {
  torch::Tensor total;                       ///< 0-d: the sum of all that follow
  TokenLoss text;                            ///< token_T [T]
  std::map<std::string, TokenLoss> targets;  ///< by modality, token_T [R]
};

/// What the next tokens are drawn from.
struct NextLogits {
  torch::Tensor text_RV;
  std::map<std::string, torch::Tensor> codes_RC;
};

/// Linear, GELU, Linear: joins parts of different widths.
class Projector : public nn::Module {
 public:
  Projector(int64_t in, int64_t out, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_RD) const;

 private:
  nn::Linear fc1_, fc2_;
};

/// All projectors of a model, by the part they serve: "encoders.image", "decoders.image.in".
class Projectors final : public nn::Module {
 public:
  void add(const std::string& part, int64_t in, int64_t out, const nn::ParamOptions& options);
  /// x itself where the part needs none.
  torch::Tensor forward(const std::string& part, torch::Tensor x_RD) const;
  bool has(const std::string& part) const { return by_part_.contains(part); }
  bool empty() const { return by_part_.empty(); }
  Projector& at(const std::string& part) { return *by_part_.at(part); }

 private:
  std::map<std::string, std::unique_ptr<Projector>> by_part_;
};

class OmniModel final : public nn::Unit {
 public:
  struct Parts {
    std::unique_ptr<Foundation> foundation;  ///< may be null
    std::map<std::string, std::unique_ptr<Encoder>> encoders;
    std::map<std::string, std::unique_ptr<Decoder>> decoders;
  };
  /// Adds projectors where a part's width is not the foundation's.
  OmniModel(Parts parts, const nn::ParamOptions& options);

  torch::Device device() const { return any_.value().device(); }
  bool has_foundation() const { return parts_.foundation != nullptr; }
  Foundation& foundation();
  const std::map<std::string, std::unique_ptr<Encoder>>& encoders() const {
    return parts_.encoders;
  }
  const std::map<std::string, std::unique_ptr<Decoder>>& decoders() const {
    return parts_.decoders;
  }
  Projectors& projectors() { return projectors_; }
  Encoder& encoder(const std::string& modality);
  Decoder& decoder(const std::string& modality);

  /// One forward of the whole model: text and media targets.
  Losses losses(const ModelInput& input);
  /// Logits [R, V] of the rows in `rows_R` (int64), or of all T where it is undefined.
  torch::Tensor logits(const ModelInput& input, const torch::Tensor& rows_R = {});
  /// The same, with logits over codes of other rows. A row tensor of no elements costs nothing.
  NextLogits next(const ModelInput& input, const torch::Tensor& text_rows_R,
                  const std::map<std::string, torch::Tensor>& code_rows_R);
  /// Cross-entropy of every position [T], no graph.
  torch::Tensor token_losses(const ModelInput& input);

  // Parts by themselves.
  /// An encoder's token embeddings before any projector [R, D'].
  torch::Tensor encode(const std::string& modality, const MediaInput& input);
  /// A decoder's codes [R], no graph.
  torch::Tensor codes(const std::string& modality, const MediaInput& input);
  /// What a decoder's tokenizer makes of its own codes [P, F], straight-through.
  torch::Tensor reconstruct(const std::string& modality, const MediaInput& input);
  std::map<std::string, torch::Tensor> tokenizer_losses(const std::string& modality,
                                                        const MediaInput& input, double scale,
                                                        bool quantize = true);
  /// The vectors a decoder's tokenizer looks codes up for [R, E], no graph.
  torch::Tensor latents(const std::string& modality, const MediaInput& input);
  /// Codes [R] -> media values [P, F], no graph.
  torch::Tensor lm_generate(const std::string& modality, const torch::Tensor& codes_R,
                            const std::vector<Grid>& grids);

 private:
  struct Embedded {
    torch::Tensor x_TD;
    std::map<std::string, torch::Tensor> target_codes;
  };
  Embedded embed(const ModelInput& input);
  torch::Tensor hidden(const ModelInput& input);
  torch::Tensor with_decoder(const std::string& modality, const MediaInput& input,
                             torch::Tensor (Decoder::*call)(const torch::Tensor&,
                                                            const std::vector<Grid>&));
  torch::Tensor features_of(const MediaInput& input, int64_t width) const;
  torch::Tensor code_logits(const std::string& modality, const torch::Tensor& hidden_RD);

  Parts parts_;
  Projectors projectors_;
  nn::ScatterSlot scatter_;
  nn::ParamOptions options_;
  nn::Parameter any_;  // says which device the model is on by now
};

}  // namespace veomni::model
