// SPDX-License-Identifier: Apache-2.0
/// What joins codes and a foundation: embeddings of codes, the aligner behind them, and the classifier over codes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config.h"
#include "veomni/model/losses.h"
#include "veomni/nn/layers.h"
#include "veomni/nn/unit.h"

namespace veomni::model {

// R codes  C of the codebook  D the foundation's width

class JanusClassifier : public nn::Module {
 public:
  JanusClassifier(int64_t width, int64_t codes, nn::Init init, const nn::ParamOptions& options);
  torch::Tensor logits(const torch::Tensor& x_RD) const;
  TokenLoss loss(const torch::Tensor& x_RD, const torch::Tensor& codes_R,
                 const torch::Tensor& weights_R) const;

 private:
  nn::Parameter weight_, bias_;
};

class JanusGeneration : public nn::Unit {
 public:
  JanusGeneration(const JanusVqConfig& config, int64_t width, const nn::ParamOptions& options);
  torch::Tensor embed(const torch::Tensor& codes_R);     ///< [R] -> [R, D]
  torch::Tensor logits(const torch::Tensor& hidden_RD);  ///< [R, D] -> [R, C]
  /// Σ weights[r] · cross-entropy of codes[r].
  TokenLoss loss(const torch::Tensor& hidden_RD, const torch::Tensor& codes_R,
                 const torch::Tensor& weights_R);
  double flops_per_token();

 private:
  torch::Tensor activate(const torch::Tensor& x) const;

  std::string act_;
  nn::Embedding embeddings_;
  std::vector<std::unique_ptr<nn::Linear>> aligner_;
  nn::Linear proj_out_;
  JanusClassifier vision_head_;
};

}  // namespace veomni::model
