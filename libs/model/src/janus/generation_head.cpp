// SPDX-License-Identifier: Apache-2.0
#include "generation_head.h"

#include "blocks.h"
#include "veomni/ops/activation.h"
#include "veomni/ops/linear.h"
#include "veomni/ops/loss.h"

namespace veomni::model {

namespace {

nn::Init weight_init(const JanusVqConfig& c) { return nn::Init::normal(c.initializer_range); }

}  // namespace

JanusClassifier::JanusClassifier(int64_t width, int64_t codes, nn::Init init,
                                 const nn::ParamOptions& o) {
  weight_ = parameter("weight", nn::Parameter({codes, width}, o, init, nn::kTagHead));
  bias_ =
      parameter("bias", nn::Parameter({codes}, o, nn::Init::zeros(), nn::kTagHead | nn::kTagBias));
}

torch::Tensor JanusClassifier::logits(const torch::Tensor& x_RD) const {
  return ops::linear(x_RD, weight_.value(), bias_.value(), {}, weight_.packed());
}

TokenLoss JanusClassifier::loss(const torch::Tensor& x_RD, const torch::Tensor& codes_R,
                                const torch::Tensor& weights_R) const {
  const auto loss = ops::linear_cross_entropy(x_RD, weight_.value(), codes_R, weights_R, 0,
                                              bias_.value(), weight_.packed());
  return {loss.total, loss.token_T};
}

JanusGeneration::JanusGeneration(const JanusVqConfig& c, int64_t width, const nn::ParamOptions& o)
    : act_(c.hidden_act),
      embeddings_(c.num_embeddings, c.embed_dim, weight_init(c), o),
      proj_out_(width, width, true, weight_init(c), o),
      vision_head_(width, c.num_embeddings, weight_init(c), o) {
  child("embeddings", embeddings_);
  for (int64_t i = 0; i < c.aligner_layers; ++i) {
    aligner_.push_back(
        std::make_unique<nn::Linear>(i == 0 ? c.embed_dim : width, width, true, weight_init(c), o));
    child(i == 0 ? "aligner.fc1" : "aligner.hidden_layers." + std::to_string(i - 1),
          *aligner_.back());
  }
  child("head.proj_out", proj_out_);
  child("head.vision_head", vision_head_);
}

torch::Tensor JanusGeneration::activate(const torch::Tensor& x) const {
  return act_ == "silu" ? ops::silu(x) : ops::gelu(x, act_ == "gelu_pytorch_tanh");
}

torch::Tensor JanusGeneration::embed(const torch::Tensor& codes_R) {
  return run(Tensors{}, [this, codes_R](const Tensors&) -> Tensors {
    auto x_RD = aligner_.front()->forward(embeddings_.forward(codes_R));
    for (size_t i = 1; i < aligner_.size(); ++i) x_RD = aligner_[i]->forward(activate(x_RD));
    return {x_RD};
  })[0];
}

torch::Tensor JanusGeneration::logits(const torch::Tensor& hidden_RD) {
  return run(hidden_RD, [this](const torch::Tensor& hidden_RD) {
    return vision_head_.logits(activate(proj_out_.forward(hidden_RD)));
  });
}

TokenLoss JanusGeneration::loss(const torch::Tensor& hidden_RD, const torch::Tensor& codes_R,
                                const torch::Tensor& weights_R) {
  const auto out =
      run(Tensors{hidden_RD}, [this, codes_R, weights_R](const Tensors& in) -> Tensors {
        const auto loss = vision_head_.loss(activate(proj_out_.forward(in[0])), codes_R, weights_R);
        return {loss.total, loss.token_T};
      });
  return {out[0], out[1].detach()};
}

double JanusGeneration::flops_per_token() {
  double flops = flops_of_weights(proj_out_, 1) + flops_of_weights(vision_head_, 1);
  for (auto& layer : aligner_) flops += flops_of_weights(*layer, 1);
  return flops;
}

}  // namespace veomni::model
