// SPDX-License-Identifier: Apache-2.0
/// Single-device building blocks: parameters plus one op each.
#pragma once

#include "veomni/nn/module.h"

namespace veomni::nn {

/// y = x Wᵀ (+ b) (+ residual).  x [..., in], weight [out, in], residual and the result [..., out].
class Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, bool bias, Init init, const ParamOptions& options,
         uint32_t tags = kTagNone);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& residual = {}) const;
  const Parameter& weight() const { return weight_; }

 private:
  Parameter weight_, bias_;
};

/// ids [T] int64 -> [T, D].
class Embedding : public Module {
 public:
  Embedding(int64_t vocab, int64_t width, Init init, const ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& ids_T) const;
  const Parameter& weight() const { return weight_; }

 private:
  Parameter weight_;
};

/// Root mean square norm over the last dimension (Zhang & Sennrich 2019, eq. 4); statistics in max(fp32, dtype).
class RmsNorm : public Module {
 public:
  RmsNorm(int64_t width, double eps, const ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;
  const Parameter& weight() const { return weight_; }
  double eps() const { return eps_; }

 private:
  Parameter weight_;
  double eps_;
};

/// Layer norm over the last dimension (Ba et al. 2016); statistics in max(fp32, dtype).
class LayerNorm : public Module {
 public:
  LayerNorm(int64_t width, double eps, const ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

 private:
  Parameter weight_, bias_;
  double eps_;
};

/// SwiGLU feed-forward (Shazeer 2020): down(silu(gate(x)) · up(x)) (+ residual); gate and up are one weight [2I, D], gate first.
class GatedMlp : public Module {
 public:
  GatedMlp(int64_t width, int64_t inner, Init init, const ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& residual = {}) const;

 private:
  Linear gate_up_, down_;
};

}  // namespace veomni::nn
