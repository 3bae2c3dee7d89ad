// SPDX-License-Identifier: Apache-2.0
/// A judge of patches that tells pictures from reconstructions (Isola et al., arXiv 1611.07004, section 3.2.2), trained
/// together with the tokenizer by hinge losses (Lim & Ye, arXiv 1705.02894).
#pragma once

#include "blocks.h"
#include "veomni/nn/unit.h"

namespace veomni::model {

class JanusDiscriminator : public nn::Unit {
 public:
  JanusDiscriminator(nn::Init init, const nn::ParamOptions& options);

  /// Both players' terms, so that one backward trains both: `generator` has no gradient for the discriminator's
  /// parameters, `discriminator` none for the pictures.
  struct Terms {
    torch::Tensor generator;      ///< weight · scale · Σ −D(drawn)
    torch::Tensor discriminator;  ///< scale · Σ ½ (max(0, 1 − D(real)) + max(0, 1 + D(drawn)))
  };
  /// Sums over pictures of means over patches. @param drawn, real  [N, H, W, 3]
  Terms losses(const torch::Tensor& drawn_NHWC, const torch::Tensor& real_NHWC, double weight,
               double scale);
  double flops(double pixels);

 private:
  torch::Tensor judge(const torch::Tensor& x_NHWC, bool frozen) const;

  JanusConv conv1_, conv2_, conv3_, conv_out_;
  JanusGroupNorm norm2_, norm3_;
};

}  // namespace veomni::model
