// SPDX-License-Identifier: Apache-2.0
#include "blocks.h"

#include <cmath>

#include "config.h"
#include "veomni/ops/attention.h"
#include "veomni/ops/group_norm.h"
#include "veomni/ops/norm.h"
#include "veomni/ops/resample.h"

namespace veomni::model {

namespace {

constexpr ops::Conv2dOptions kSame = {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1};
// Zeros below and to the right only, as the tokenizer's authors trained it.
constexpr ops::Conv2dOptions kHalve = {
    .stride_h = 2, .stride_w = 2, .pad_bottom = 1, .pad_right = 1};

std::string numbered(const char* name, size_t i) { return name + ("." + std::to_string(i)); }

double attention_flops(double pixels, double channels) { return 4 * pixels * pixels * channels; }

}  // namespace

JanusConv::JanusConv(int64_t in, int64_t out, int64_t kernel, ops::Conv2dOptions conv,
                     nn::Init init, const nn::ParamOptions& o)
    : conv_(conv) {
  weight_ = parameter("weight", nn::Parameter({out, in, kernel, kernel}, o, init));
  bias_ = parameter("bias", nn::Parameter({out}, o, nn::Init::zeros(), nn::kTagBias));
}

JanusConv::JanusConv(int64_t in, int64_t out, nn::Init init, const nn::ParamOptions& o)
    : JanusConv(in, out, 3, kSame, init, o) {}

torch::Tensor JanusConv::forward(const torch::Tensor& x_NHWC) const {
  return ops::conv2d(x_NHWC, weight_.value(), bias_.value(), conv_);
}

torch::Tensor JanusConv::forward_frozen(const torch::Tensor& x_NHWC) const {
  return ops::conv2d(x_NHWC, weight_.value().detach(), bias_.value().detach(), conv_);
}

JanusGroupNorm::JanusGroupNorm(int64_t channels, const nn::ParamOptions& o) {
  weight_ = parameter("weight", nn::Parameter({channels}, o, nn::Init::ones(), nn::kTagNorm));
  bias_ = parameter("bias",
                    nn::Parameter({channels}, o, nn::Init::zeros(), nn::kTagNorm | nn::kTagBias));
}

torch::Tensor JanusGroupNorm::forward(const torch::Tensor& x_NHWC, bool silu) const {
  return ops::group_norm(x_NHWC, weight_.value(), bias_.value(), kJanusGroups, kJanusNormEps, silu);
}

torch::Tensor JanusGroupNorm::forward_frozen(const torch::Tensor& x_NHWC, bool silu) const {
  return ops::group_norm(x_NHWC, weight_.value().detach(), bias_.value().detach(), kJanusGroups,
                         kJanusNormEps, silu);
}

JanusResnetBlock::JanusResnetBlock(int64_t in, int64_t out, nn::Init init,
                                   const nn::ParamOptions& o)
    : norm1_(in, o), norm2_(out, o), conv1_(in, out, init, o), conv2_(out, out, init, o) {
  child("norm1", norm1_);
  child("conv1", conv1_);
  child("norm2", norm2_);
  child("conv2", conv2_);
  if (in == out) return;
  shortcut_ = std::make_unique<nn::Linear>(in, out, true, init, o);
  child("nin_shortcut", *shortcut_);
}

torch::Tensor JanusResnetBlock::forward(const torch::Tensor& x_NHWC) const {
  auto h_NHWO = conv1_.forward(norm1_.forward(x_NHWC, true));
  h_NHWO = conv2_.forward(norm2_.forward(h_NHWO, true));
  return (shortcut_ ? shortcut_->forward(x_NHWC) : x_NHWC) + h_NHWO;
}

JanusAttnBlock::JanusAttnBlock(int64_t channels, nn::Init init, const nn::ParamOptions& o)
    : norm_(channels, o),
      q_(channels, channels, true, init, o),
      k_(channels, channels, true, init, o),
      v_(channels, channels, true, init, o),
      out_(channels, channels, true, init, o) {
  child("norm", norm_);
  child("q", q_);
  child("k", k_);
  child("v", v_);
  child("proj_out", out_);
}

torch::Tensor JanusAttnBlock::forward(const torch::Tensor& x_NHWC) const {
  const int64_t N = x_NHWC.size(0), C = x_NHWC.size(3);
  const int64_t each = x_NHWC.size(1) * x_NHWC.size(2), T = N * each;
  std::vector<int32_t> cu_seqlens;
  for (int64_t i = 0; i <= N; ++i) cu_seqlens.push_back(static_cast<int32_t>(i * each));
  const ops::AttentionSpec spec{.scale = 1.0 / std::sqrt(static_cast<double>(C)), .causal = false};
  const auto h_TC = norm_.forward(x_NHWC, false).view({T, C});
  const auto heads = [&](const nn::Linear& map) { return map.forward(h_TC).view({T, 1, C}); };
  // Softmax does not see what all keys of a picture have in common, but rounding does: without it the
  // sums of backward, which cancel it, keep their digits.
  const auto k_T1C = ops::center_rows(k_.forward(h_TC).view({N, each, C})).view({T, 1, C});
  const auto out_T1C =
      ops::varlen_attention(heads(q_), k_T1C, heads(v_), cu_seqlens, cu_seqlens, spec).out_THK;
  return x_NHWC + out_.forward(out_T1C.view({T, C})).view(x_NHWC.sizes());
}

JanusMidBlock::JanusMidBlock(int64_t channels, nn::Init init, const nn::ParamOptions& o)
    : channels_(channels),
      block1_(channels, channels, init, o),
      attn_(channels, init, o),
      block2_(channels, channels, init, o) {
  child("block_1", block1_);
  child("attn_1", attn_);
  child("block_2", block2_);
}

torch::Tensor JanusMidBlock::forward(const torch::Tensor& x_NHWC) const {
  return block2_.forward(attn_.forward(block1_.forward(x_NHWC)));
}

double JanusMidBlock::flops(double pixels) {
  return flops_of_weights(*this, pixels) + attention_flops(pixels, static_cast<double>(channels_));
}

JanusLevel::JanusLevel(Shape shape, nn::Init init, const nn::ParamOptions& o) : shape_(shape) {
  for (int64_t i = 0; i < shape.blocks; ++i) {
    blocks_.push_back(
        std::make_unique<JanusResnetBlock>(i == 0 ? shape.in : shape.out, shape.out, init, o));
    child(numbered("block", i), *blocks_.back());
    if (!shape.attention) continue;
    attns_.push_back(std::make_unique<JanusAttnBlock>(shape.out, init, o));
    child(numbered("attn", i), *attns_.back());
  }
  if (shape.then == Then::kStay) return;
  const bool halve = shape.then == Then::kHalve;
  resample_ = std::make_unique<JanusConv>(shape.out, shape.out, 3, halve ? kHalve : kSame, init, o);
  child(halve ? "downsample.conv" : "upsample.conv", *resample_);
}

torch::Tensor JanusLevel::forward(torch::Tensor x_NHWC) const {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x_NHWC = blocks_[i]->forward(x_NHWC);
    if (shape_.attention) x_NHWC = attns_[i]->forward(x_NHWC);
  }
  if (!resample_) return x_NHWC;
  return resample_->forward(shape_.then == Then::kDouble ? ops::upsample_nearest2x(x_NHWC)
                                                         : x_NHWC);
}

double JanusLevel::flops(double pixels) {
  double flops = 0;
  for (auto& block : blocks_) flops += flops_of_weights(*block, pixels);
  for (auto& attn : attns_)
    flops +=
        flops_of_weights(*attn, pixels) + attention_flops(pixels, static_cast<double>(shape_.out));
  if (resample_)
    flops += flops_of_weights(*resample_, shape_.then == Then::kHalve ? pixels / 4 : pixels * 4);
  return flops;
}

double flops_of_weights(nn::Module& module, double pixels) {
  double weights = 0;
  for (const auto& [name, parameter] : module.named_parameters()) {
    if (parameter.shape().size() > 1) weights += static_cast<double>(parameter.numel());
  }
  return 2 * pixels * weights;
}

}  // namespace veomni::model
