// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/layers.h"

#include "veomni/ops/activation.h"
#include "veomni/ops/embedding.h"
#include "veomni/ops/linear.h"
#include "veomni/ops/norm.h"

namespace veomni::nn {

Linear::Linear(int64_t in, int64_t out, bool bias, Init init, const ParamOptions& options,
               uint32_t tags) {
  weight_ = parameter("weight", Parameter({out, in}, options, init, tags));
  if (bias) bias_ = parameter("bias", Parameter({out}, options, Init::zeros(), tags | kTagBias));
}

torch::Tensor Linear::forward(const torch::Tensor& x, const torch::Tensor& residual) const {
  return ops::linear(x, weight_.value(), bias_.defined() ? bias_.value() : torch::Tensor(),
                     residual, weight_.packed());
}

Embedding::Embedding(int64_t vocab, int64_t width, Init init, const ParamOptions& options) {
  weight_ = parameter("weight", Parameter({vocab, width}, options, init, kTagEmbedding));
}

torch::Tensor Embedding::forward(const torch::Tensor& ids_T) const {
  return ops::embedding(ids_T, weight_.value());
}

RmsNorm::RmsNorm(int64_t width, double eps, const ParamOptions& options) : eps_(eps) {
  weight_ = parameter("weight", Parameter({width}, options, Init::ones(), kTagNorm));
}

torch::Tensor RmsNorm::forward(const torch::Tensor& x) const {
  return ops::rms_norm(x, weight_.value(), eps_);
}

LayerNorm::LayerNorm(int64_t width, double eps, const ParamOptions& options) : eps_(eps) {
  weight_ = parameter("weight", Parameter({width}, options, Init::ones(), kTagNorm));
  bias_ = parameter("bias", Parameter({width}, options, Init::zeros(), kTagNorm | kTagBias));
}

torch::Tensor LayerNorm::forward(const torch::Tensor& x) const {
  return ops::layer_norm(x, weight_.value(), bias_.value(), eps_);
}

GatedMlp::GatedMlp(int64_t width, int64_t inner, Init init, const ParamOptions& options)
    : gate_up_(width, 2 * inner, false, init, options), down_(inner, width, false, init, options) {
  child("gate_up", gate_up_);
  child("down", down_);
}

torch::Tensor GatedMlp::forward(const torch::Tensor& x, const torch::Tensor& residual) const {
  return down_.forward(ops::swiglu(gate_up_.forward(x)), residual);
}

}  // namespace veomni::nn
