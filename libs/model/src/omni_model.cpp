// SPDX-License-Identifier: Apache-2.0
#include "veomni/model/omni_model.h"

#include "veomni/base/error.h"
#include "veomni/io/hf_directory.h"
#include "veomni/model/registration.h"
#include "veomni/nn/materialize.h"
#include "veomni/ops/rows.h"
#include "yaml_json.h"

namespace veomni::model {

OmniModel::OmniModel(std::unique_ptr<Foundation> foundation) : foundation_(std::move(foundation)) {
  child("foundation", *foundation_);
}

Losses OmniModel::losses(const ModelInput& input, const std::map<std::string, double>& scale) {
  auto out = run(Tensors{}, [this, input, text = scale.at("text")](const Tensors&) -> Tensors {
    auto hidden_TD = foundation_->forward(foundation_->embed(input.ids_T), input.seq);
    return {foundation_->lm_loss(hidden_TD, input.labels_T, text)};
  });
  return {{"text", out[0]}};
}

torch::Tensor OmniModel::logits(const ModelInput& input, const torch::Tensor& rows_R) {
  return run(Tensors{}, [this, input, rows_R](const Tensors&) -> Tensors {
    auto hidden_TD = foundation_->forward(foundation_->embed(input.ids_T), input.seq);
    if (rows_R.defined()) hidden_TD = ops::gather_rows(hidden_TD, rows_R);
    return {foundation_->lm_head(hidden_TD)};
  })[0];
}

torch::Tensor OmniModel::token_losses(const ModelInput& input) {
  torch::NoGradGuard no_grad;
  return run(Tensors{}, [this, input](const Tensors&) -> Tensors {
    auto hidden_TD = foundation_->forward(foundation_->embed(input.ids_T), input.seq);
    return {foundation_->token_losses(hidden_TD, input.labels_T)};
  })[0];
}

namespace {

bool has_config(const PartOptions& part) {
  return part.config.IsDefined() && !part.config.IsNull();
}

void apply_train(nn::Module& part, const std::string& train) {
  if (train != "none") return;
  for (auto& [name, parameter] : part.named_parameters()) parameter.set_trainable(false);
}

}  // namespace

std::unique_ptr<OmniModel> build_model(const ModelOptions& options,
                                       const nn::ParamOptions& param_options) {
  const PartOptions& part = options.foundation;
  VEOMNI_CHECK_CONFIG(part.path.empty() != !has_config(part),
                      "model.foundation needs either `path` (a Hugging Face directory) or `config` "
                      "(for a model from scratch)");
  std::unique_ptr<Foundation> foundation;
  if (has_config(part)) {
    foundation =
        make_foundation(yaml_to_json(part.config), "model.foundation.config", param_options);
  } else {
    const auto directory = io::HfDirectory::open(part.path);
    foundation = make_foundation(directory.config(), directory.config_path(), param_options);
  }
  auto model = std::make_unique<OmniModel>(std::move(foundation));
  nn::assign_names(*model);
  apply_train(model->foundation(), part.train);
  return model;
}

void fill_weights(OmniModel& model, const ModelOptions& options, uint64_t seed) {
  if (has_config(options.foundation)) {
    nn::initialize(model, seed);
    return;
  }
  const auto directory = io::HfDirectory::open(options.foundation.path);
  auto& foundation = model.foundation();
  nn::load_weights(foundation, foundation.rules(), directory.weights());
}

}  // namespace veomni::model
