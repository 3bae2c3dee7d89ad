// SPDX-License-Identifier: Apache-2.0
/// What both halves of Janus's picture tokenizer are built of (the VQGAN of Esser et al., arXiv 2012.09841, appendix A).
#pragma once

#include <memory>
#include <vector>

#include "veomni/nn/layers.h"
#include "veomni/nn/module.h"
#include "veomni/ops/conv.h"

namespace veomni::model {

// N pictures  H, W pixels of a resolution  C channels  O output channels

/// A convolution with a bias, channels last; weight [O, C, k, k].
class JanusConv : public nn::Module {
 public:
  JanusConv(int64_t in, int64_t out, int64_t kernel, ops::Conv2dOptions conv, nn::Init init,
            const nn::ParamOptions& options);
  /// 3 x 3, as many pixels out as in.
  JanusConv(int64_t in, int64_t out, nn::Init init, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_NHWC) const;
  /// The same with parameters that get no gradient.
  torch::Tensor forward_frozen(const torch::Tensor& x_NHWC) const;

 private:
  ops::Conv2dOptions conv_;
  nn::Parameter weight_, bias_;
};

class JanusGroupNorm : public nn::Module {
 public:
  JanusGroupNorm(int64_t channels, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_NHWC, bool silu) const;
  torch::Tensor forward_frozen(const torch::Tensor& x_NHWC, bool silu) const;

 private:
  nn::Parameter weight_, bias_;
};

/// x + conv2(silu(norm2(conv1(silu(norm1(x)))))), x through a linear map where its channels change.
class JanusResnetBlock : public nn::Module {
 public:
  JanusResnetBlock(int64_t in, int64_t out, nn::Init init, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_NHWC) const;

 private:
  JanusGroupNorm norm1_, norm2_;
  JanusConv conv1_, conv2_;
  std::unique_ptr<nn::Linear> shortcut_;
};

/// x + attention of every pixel to all pixels of its picture, one head.
class JanusAttnBlock : public nn::Module {
 public:
  JanusAttnBlock(int64_t channels, nn::Init init, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_NHWC) const;

 private:
  JanusGroupNorm norm_;
  nn::Linear q_, k_, v_, out_;
};

class JanusMidBlock : public nn::Module {
 public:
  JanusMidBlock(int64_t channels, nn::Init init, const nn::ParamOptions& options);
  torch::Tensor forward(const torch::Tensor& x_NHWC) const;
  double flops(double pixels);

 private:
  int64_t channels_;
  JanusResnetBlock block1_;
  JanusAttnBlock attn_;
  JanusResnetBlock block2_;
};

/// The blocks of one resolution and the way to the next.
class JanusLevel : public nn::Module {
 public:
  enum class Then { kStay, kHalve, kDouble };
  struct Shape {
    int64_t in, out, blocks;
    bool attention;  ///< after each block
    Then then;
  };
  JanusLevel(Shape shape, nn::Init init, const nn::ParamOptions& options);
  torch::Tensor forward(torch::Tensor x_NHWC) const;
  /// Of a picture with so many pixels at this resolution.
  double flops(double pixels);

 private:
  Shape shape_;
  std::vector<std::unique_ptr<JanusResnetBlock>> blocks_;
  std::vector<std::unique_ptr<JanusAttnBlock>> attns_;
  std::unique_ptr<JanusConv> resample_;
};

/// FLOPs of every matrix and kernel of `module` applied to so many pixels.
double flops_of_weights(nn::Module& module, double pixels);

}  // namespace veomni::model
