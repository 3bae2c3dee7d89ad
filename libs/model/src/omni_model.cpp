// SPDX-License-Identifier: Apache-2.0
#include "veomni/model/omni_model.h"

#include "veomni/base/error.h"
#include "veomni/ops/activation.h"
#include "veomni/ops/rows.h"

namespace veomni::model {

namespace {

constexpr double kProjectorStd = 0.02;

const MediaInput& input_of(const std::map<std::string, MediaInput>& inputs,
                           const std::string& modality) {
  static const MediaInput none;
  const auto found = inputs.find(modality);
  return found == inputs.end() ? none : found->second;
}

torch::Tensor rows_of(const torch::Tensor& rows) {
  return rows.defined() ? rows : torch::empty({0}, torch::kLong);
}

void check_count(const char* what, const std::string& modality, int64_t made,
                 const torch::Tensor& tokens_R) {
  VEOMNI_CHECK(made == tokens_R.size(0), "the ", modality, " ", what, " makes ", made,
               " token embeddings, but ", tokens_R.size(0),
               " placeholder tokens stand for them in the sequence");
}

template <typename Part>
Part& part_named(const std::map<std::string, std::unique_ptr<Part>>& parts, const char* kind,
                 const std::string& modality) {
  const auto found = parts.find(modality);
  VEOMNI_CHECK(found != parts.end(), "this model has no ", modality, " ", kind);
  return *found->second;
}

}  // namespace

Projector::Projector(int64_t in, int64_t out, const nn::ParamOptions& o)
    : fc1_(in, out, true, nn::Init::normal(kProjectorStd), o),
      fc2_(out, out, true, nn::Init::normal(kProjectorStd), o) {
  child("fc1", fc1_);
  child("fc2", fc2_);
}

torch::Tensor Projector::forward(const torch::Tensor& x_RD) const {
  return fc2_.forward(ops::gelu(fc1_.forward(x_RD), false));
}

void Projectors::add(const std::string& part, int64_t in, int64_t out, const nn::ParamOptions& o) {
  auto& projector = by_part_[part] = std::make_unique<Projector>(in, out, o);
  child(part, *projector);
}

torch::Tensor Projectors::forward(const std::string& part, torch::Tensor x_RD) const {
  const auto found = by_part_.find(part);
  return found == by_part_.end() ? x_RD : found->second->forward(x_RD);
}

OmniModel::OmniModel(Parts parts, const nn::ParamOptions& options)
    : parts_(std::move(parts)), options_(options) {
  const auto join_widths = [&](const std::string& name, int64_t in, int64_t out) {
    if (in != out) projectors_.add(name, in, out, options);
  };
  if (has_foundation()) child("foundation", *parts_.foundation);
  const int64_t width = has_foundation() ? parts_.foundation->hidden_size() : 0;
  for (auto& [modality, encoder] : parts_.encoders) {
    child("encoders." + modality, *encoder);
    if (has_foundation()) join_widths("encoders." + modality, encoder->output_size(), width);
  }
  for (auto& [modality, decoder] : parts_.decoders) {
    child("decoders." + modality, *decoder);
    if (!has_foundation()) continue;
    join_widths("decoders." + modality + ".in", decoder->lm_width(), width);
    join_widths("decoders." + modality + ".out", width, decoder->lm_width());
  }
  child("projectors", projectors_);
  child("scatter", scatter_);
  any_ = named_parameters().front().second;
}

Foundation& OmniModel::foundation() {
  VEOMNI_CHECK(has_foundation(), "this model has no foundation");
  return *parts_.foundation;
}

Encoder& OmniModel::encoder(const std::string& modality) {
  return part_named(parts_.encoders, "encoder", modality);
}

Decoder& OmniModel::decoder(const std::string& modality) {
  return part_named(parts_.decoders, "decoder", modality);
}

torch::Tensor OmniModel::features_of(const MediaInput& input, int64_t width) const {
  if (!input.features_PF.defined())
    return torch::empty({0, width}, torch::dtype(options_.dtype).device(device()));
  VEOMNI_CHECK(input.features_PF.size(1) == width, "features of ", input.features_PF.size(1),
               " columns for a part that reads ", width);
  return input.features_PF.to(options_.dtype);
}

// Every part runs even without items, unless the caller asks to leave absent ones out.
OmniModel::Embedded OmniModel::embed(const ModelInput& input) {
  Embedded out{foundation().embed(input.ids_T), {}};
  const auto insert = [&](const nn::Routes& routes, torch::Tensor rows_RD) {
    out.x_TD = ops::put_rows(out.x_TD, routes.tokens, scatter_.scatter().deliver(rows_RD, routes));
  };
  for (auto& [modality, encoder] : parts_.encoders) {
    const MediaInput& items = input_of(input.inputs, modality);
    if (input.skip_absent && !input.inputs.contains(modality)) continue;
    const nn::Routes routes{rows_of(items.routes.tokens)};
    auto rows_RD = encoder->lm_encode(features_of(items, encoder->feature_width()), items.grids);
    check_count("encoder", modality, rows_RD.size(0), routes.tokens);
    insert(routes, projectors_.forward("encoders." + modality, rows_RD));
  }
  for (auto& [modality, decoder] : parts_.decoders) {
    const MediaInput& items = input_of(input.targets, modality);
    if (input.skip_absent && !input.targets.contains(modality)) continue;
    const nn::Routes routes{rows_of(items.routes.tokens)};
    auto encoded = decoder->lm_encode(features_of(items, decoder->feature_width()), items.grids);
    check_count("decoder", modality, encoded.codes_R.size(0), routes.tokens);
    insert(routes, projectors_.forward("decoders." + modality + ".in", encoded.embeds_RD));
    out.target_codes[modality] = encoded.codes_R;
  }
  for (const auto& [modality, codes] : input.codes) {
    auto rows_RD = projectors_.forward("decoders." + modality + ".in",
                                       decoder(modality).lm_embed(codes.codes_R));
    insert({codes.tokens_R}, rows_RD);
  }
  return out;
}

torch::Tensor OmniModel::hidden(const ModelInput& input) {
  return foundation().forward(embed(input).x_TD, input.seq);
}

Losses OmniModel::losses(const ModelInput& input) {
  std::vector<std::string> modalities;
  for (const auto& [modality, decoder] : parts_.decoders) {
    if (!input.skip_absent || input.targets.contains(modality)) modalities.push_back(modality);
  }
  auto out = run(Tensors{}, [this, input](const Tensors&) -> Tensors {
    auto embedded = embed(input);
    auto hidden_TD = foundation().forward(embedded.x_TD, input.seq);
    auto text = foundation().lm_loss(hidden_TD, input.labels_T, input.weights_T);
    Tensors results{text.total, text.token_T};
    for (const auto& [modality, codes_R] : embedded.target_codes) {
      const MediaInput& items = input_of(input.targets, modality);
      // The token before a code predicts it.
      const auto rows_R = rows_of(items.routes.tokens) - 1;
      const auto weights_R = items.weights_R.defined() ? items.weights_R : torch::empty({0});
      auto hidden_RD =
          projectors_.forward("decoders." + modality + ".out", ops::gather_rows(hidden_TD, rows_R));
      auto loss = decoder(modality).lm_loss(hidden_RD, codes_R, weights_R);
      results.insert(results.end(), {loss.total, loss.token_T});
    }
    return results;
  });
  Losses losses{out[0], {out[0], out[1].detach()}, {}};
  for (size_t i = 0; i < modalities.size(); ++i) {
    losses.targets[modalities[i]] = {out[2 * i + 2], out[2 * i + 3].detach()};
    losses.total = losses.total + out[2 * i + 2];
  }
  return losses;
}

torch::Tensor OmniModel::code_logits(const std::string& modality, const torch::Tensor& hidden_RD) {
  return decoder(modality).lm_head(projectors_.forward("decoders." + modality + ".out", hidden_RD));
}

torch::Tensor OmniModel::logits(const ModelInput& input, const torch::Tensor& rows_R) {
  return run(Tensors{}, [this, input, rows_R](const Tensors&) -> Tensors {
    auto hidden_TD = hidden(input);
    if (rows_R.defined()) hidden_TD = ops::gather_rows(hidden_TD, rows_R);
    return {foundation().lm_head(hidden_TD)};
  })[0];
}

NextLogits OmniModel::next(const ModelInput& input, const torch::Tensor& text_rows_R,
                           const std::map<std::string, torch::Tensor>& code_rows_R) {
  NextLogits next;
  auto out = run(Tensors{}, [this, input, text_rows_R, code_rows_R](const Tensors&) -> Tensors {
    auto hidden_TD = hidden(input);
    Tensors results{foundation().lm_head(ops::gather_rows(hidden_TD, text_rows_R))};
    for (const auto& [modality, rows_R] : code_rows_R)
      results.push_back(code_logits(modality, ops::gather_rows(hidden_TD, rows_R)));
    return results;
  });
  next.text_RV = out[0];
  size_t i = 1;
  for (const auto& [modality, rows_R] : code_rows_R) next.codes_RC[modality] = out[i++];
  return next;
}

torch::Tensor OmniModel::token_losses(const ModelInput& input) {
  torch::NoGradGuard no_grad;
  return run(Tensors{}, [this, input](const Tensors&) -> Tensors {
    return {foundation().token_losses(hidden(input), input.labels_T)};
  })[0];
}

torch::Tensor OmniModel::encode(const std::string& modality, const MediaInput& input) {
  return run(Tensors{}, [this, modality, input](const Tensors&) -> Tensors {
    auto& part = encoder(modality);
    return {part.lm_encode(features_of(input, part.feature_width()), input.grids)};
  })[0];
}

torch::Tensor OmniModel::with_decoder(const std::string& modality, const MediaInput& input,
                                      torch::Tensor (Decoder::*call)(const torch::Tensor&,
                                                                     const std::vector<Grid>&)) {
  return run(Tensors{}, [this, modality, input, call](const Tensors&) -> Tensors {
    auto& part = decoder(modality);
    return {(part.*call)(features_of(input, part.feature_width()), input.grids)};
  })[0];
}

torch::Tensor OmniModel::codes(const std::string& modality, const MediaInput& input) {
  torch::NoGradGuard no_grad;
  return with_decoder(modality, input, &Decoder::encode);
}

torch::Tensor OmniModel::reconstruct(const std::string& modality, const MediaInput& input) {
  return with_decoder(modality, input, &Decoder::reconstruct);
}

torch::Tensor OmniModel::latents(const std::string& modality, const MediaInput& input) {
  torch::NoGradGuard no_grad;
  return with_decoder(modality, input, &Decoder::latents);
}

std::map<std::string, torch::Tensor> OmniModel::tokenizer_losses(const std::string& modality,
                                                                 const MediaInput& input,
                                                                 double scale, bool quantize) {
  const auto names = std::make_shared<std::vector<std::string>>();
  auto out =
      run(Tensors{}, [this, modality, input, scale, quantize, names](const Tensors&) -> Tensors {
        auto& part = decoder(modality);
        Tensors results;
        names->clear();
        for (auto& [name, loss] : part.tokenizer_losses(features_of(input, part.feature_width()),
                                                        input.grids, scale, quantize)) {
          names->push_back(name);
          results.push_back(loss);
        }
        return results;
      });
  std::map<std::string, torch::Tensor> losses;
  for (size_t i = 0; i < names->size(); ++i) losses[(*names)[i]] = out[i];
  return losses;
}

torch::Tensor OmniModel::lm_generate(const std::string& modality, const torch::Tensor& codes_R,
                                     const std::vector<Grid>& grids) {
  torch::NoGradGuard no_grad;
  return run(Tensors{}, [this, modality, codes_R, grids](const Tensors&) -> Tensors {
    return {decoder(modality).lm_generate(codes_R, grids)};
  })[0];
}

}  // namespace veomni::model
