// SPDX-License-Identifier: Apache-2.0
/// Pictures to latents and back: the two halves of Janus's picture tokenizer, without the codes between them.
#pragma once

#include "blocks.h"
#include "config.h"
#include "veomni/nn/unit.h"

namespace veomni::model {

// N pictures  H, W pixels  h, w latents down and across  L latent channels

class JanusVqEncoder : public nn::Unit {
 public:
  JanusVqEncoder(const JanusVqConfig& config, const nn::ParamOptions& options);
  /// [N, H, W, 3] -> [N, h, w, L].
  torch::Tensor forward(const torch::Tensor& x_NHWC);
  /// Of a picture with so many pixels.
  double flops(double pixels);

 private:
  JanusConv conv_in_;
  std::vector<std::unique_ptr<JanusLevel>> down_;
  JanusMidBlock mid_;
  JanusGroupNorm norm_out_;
  JanusConv conv_out_;
};

class JanusVqDecoder : public nn::Unit {
 public:
  JanusVqDecoder(const JanusVqConfig& config, const nn::ParamOptions& options);
  /// [N, h, w, L] -> [N, H, W, 3].
  torch::Tensor forward(const torch::Tensor& z_NhwL);
  double flops(double pixels);

 private:
  int64_t factor_;
  JanusConv conv_in_;
  JanusMidBlock mid_;
  std::vector<std::unique_ptr<JanusLevel>> up_;
  JanusGroupNorm norm_out_;
  JanusConv conv_out_;
};

}  // namespace veomni::model
