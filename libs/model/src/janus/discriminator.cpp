// SPDX-License-Identifier: Apache-2.0
#include "discriminator.h"

#include "config.h"
#include "veomni/nn/parameter.h"
#include "veomni/ops/activation.h"
#include "veomni/ops/vq.h"

namespace veomni::model {

namespace {

constexpr int64_t kWidth = 64;
constexpr ops::Conv2dOptions kHalve = {
    .stride_h = 2, .stride_w = 2, .pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1};

// factor · Σ x, without numbers among the operands, for which the CPU would allocate and meta not.
torch::Tensor weighted_sum(const torch::Tensor& x, double factor) {
  return (x * torch::full_like(x, factor)).sum();
}

// factor · Σ max(0, x) = ½ factor · (Σ |x| + Σ x).
torch::Tensor hinge(const torch::Tensor& x, double factor) {
  return ops::absolute_error(x, torch::zeros_like(x), factor / 2) + weighted_sum(x, factor / 2);
}

}  // namespace

JanusDiscriminator::JanusDiscriminator(nn::Init init, const nn::ParamOptions& o)
    : conv1_(kJanusChannels, kWidth, 4, kHalve, init, o),
      conv2_(kWidth, 2 * kWidth, 4, kHalve, init, o),
      conv3_(2 * kWidth, 4 * kWidth, init, o),
      conv_out_(4 * kWidth, 1, init, o),
      norm2_(2 * kWidth, o),
      norm3_(4 * kWidth, o) {
  child("conv1", conv1_);
  child("conv2", conv2_);
  child("norm2", norm2_);
  child("conv3", conv3_);
  child("norm3", norm3_);
  child("conv_out", conv_out_);
}

torch::Tensor JanusDiscriminator::judge(const torch::Tensor& x_NHWC, bool frozen) const {
  const auto conv = [&](const JanusConv& layer, const torch::Tensor& x) {
    return frozen ? layer.forward_frozen(x) : layer.forward(x);
  };
  const auto norm = [&](const JanusGroupNorm& layer, const torch::Tensor& x) {
    return frozen ? layer.forward_frozen(x, true) : layer.forward(x, true);
  };
  auto h_NHWC = ops::silu(conv(conv1_, x_NHWC));
  h_NHWC = norm(norm2_, conv(conv2_, h_NHWC));
  h_NHWC = norm(norm3_, conv(conv3_, h_NHWC));
  return conv(conv_out_, h_NHWC).to(nn::wide_dtype(x_NHWC.scalar_type()));
}

JanusDiscriminator::Terms JanusDiscriminator::losses(const torch::Tensor& drawn_NHWC,
                                                     const torch::Tensor& real_NHWC, double weight,
                                                     double scale) {
  auto terms =
      run(Tensors{drawn_NHWC}, [this, real_NHWC, weight, scale](const Tensors& in) -> Tensors {
        const auto drawn = judge(in[0], true);
        const auto patches = static_cast<double>(drawn.size(1) * drawn.size(2));
        const auto generator = weighted_sum(drawn, -weight * scale / patches);
        const auto real = judge(real_NHWC.detach(), false);
        const auto seen = judge(in[0].detach(), false);
        const auto one = torch::ones_like(real);
        const double half = scale / (2 * patches);
        return {generator, hinge(one - real, half) + hinge(one + seen, half)};
      });
  return {terms[0], terms[1]};
}

double JanusDiscriminator::flops(double pixels) {
  return flops_of_weights(conv1_, pixels / 4) + flops_of_weights(conv2_, pixels / 16) +
         flops_of_weights(conv3_, pixels / 16) + flops_of_weights(conv_out_, pixels / 16);
}

}  // namespace veomni::model
