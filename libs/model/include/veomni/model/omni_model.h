// SPDX-License-Identifier: Apache-2.0
/// Encoders, a foundation and decoders, plugged together by modality name. The root Unit of every job.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "veomni/base/fields.h"
#include "veomni/model/foundation.h"
#include "veomni/nn/unit.h"

namespace veomni::model {

/// One part of a model in a recipe.
struct PartOptions {
  std::string path;   ///< a Hugging Face directory: config and weights
  YAML::Node config;  ///< or a config.json's content, initialised at random
  std::string train = "all";
};

template <typename Visitor> void visit_fields(Visitor& v, PartOptions& o) {
  v("path", o.path, "Hugging Face directory with config.json and safetensors");
  v("config", o.config, "content of a config.json, for a model from scratch (instead of path)");
  v("train", o.train, "which of its parameters are trained", one_of({"none", "all"}));
}

struct ModelOptions {
  PartOptions foundation;
};

template <typename Visitor> void visit_fields(Visitor& v, ModelOptions& o) {
  v("foundation", o.foundation, "the language model");
}

/// T packed tokens  R rows asked for  V vocabulary
struct ModelInput {
  torch::Tensor ids_T;  ///< int64
  torch::Tensor
      labels_T;  ///< int64, already shifted: the target of each position, -100 where none; may be undefined
  nn::Sequence seq;
};

/// Scalars by loss name ("text"); each is already divided by the step's global count, so ranks and micro-batches SUM.
using Losses = std::map<std::string, torch::Tensor>;

class OmniModel final : public nn::Unit {
 public:
  explicit OmniModel(std::unique_ptr<Foundation> foundation);

  Foundation& foundation() { return *foundation_; }

  /// One forward of the whole model. scale of "text": 1 / counted tokens of the step.
  Losses losses(const ModelInput& input, const std::map<std::string, double>& scale);
  /// Logits [R, V] of the rows in `rows_R` (int64), or of all T where it is undefined.
  torch::Tensor logits(const ModelInput& input, const torch::Tensor& rows_R = {});
  /// Cross-entropy of every position [T], no graph.
  torch::Tensor token_losses(const ModelInput& input);

 private:
  std::unique_ptr<Foundation> foundation_;
};

/// Builds the model a recipe asks for, on options.device (usually meta), names assigned, `train` applied.
std::unique_ptr<OmniModel> build_model(const ModelOptions& options,
                                       const nn::ParamOptions& param_options);

/// Fills a materialised model: from the parts' directories, or initialised by (seed, name).
void fill_weights(OmniModel& model, const ModelOptions& options, uint64_t seed);

}  // namespace veomni::model
