// SPDX-License-Identifier: Apache-2.0
#include "vq_coders.h"

namespace veomni::model {

namespace {

using Then = JanusLevel::Then;

nn::Init weight_init(const JanusVqConfig& c) { return nn::Init::normal(c.initializer_range); }

int64_t coarsest(const JanusVqConfig& c) { return c.channels(c.levels() - 1); }

}  // namespace

JanusVqEncoder::JanusVqEncoder(const JanusVqConfig& c, const nn::ParamOptions& o)
    : conv_in_(kJanusChannels, c.base_channels, weight_init(c), o),
      mid_(coarsest(c), weight_init(c), o),
      norm_out_(coarsest(c), o),
      conv_out_(coarsest(c), c.latent_channels, weight_init(c), o) {
  child("conv_in", conv_in_);
  int64_t in = c.base_channels;
  for (int64_t level = 0; level < c.levels(); ++level) {
    const bool last = level == c.levels() - 1;
    const JanusLevel::Shape shape{in, c.channels(level), c.num_res_blocks, last,
                                  last ? Then::kStay : Then::kHalve};
    down_.push_back(std::make_unique<JanusLevel>(shape, weight_init(c), o));
    child("down." + std::to_string(level), *down_.back());
    in = shape.out;
  }
  child("mid", mid_);
  child("norm_out", norm_out_);
  child("conv_out", conv_out_);
}

torch::Tensor JanusVqEncoder::forward(const torch::Tensor& x_NHWC) {
  return run(x_NHWC, [this](const torch::Tensor& x_NHWC) {
    auto h_NHWC = conv_in_.forward(x_NHWC);
    for (auto& level : down_) h_NHWC = level->forward(h_NHWC);
    return conv_out_.forward(norm_out_.forward(mid_.forward(h_NHWC), true));
  });
}

double JanusVqEncoder::flops(double pixels) {
  double flops = flops_of_weights(conv_in_, pixels);
  for (size_t i = 0; i < down_.size(); ++i) {
    if (i > 0) pixels /= 4;
    flops += down_[i]->flops(pixels);
  }
  return flops + mid_.flops(pixels) + flops_of_weights(conv_out_, pixels);
}

JanusVqDecoder::JanusVqDecoder(const JanusVqConfig& c, const nn::ParamOptions& o)
    : factor_(c.factor()),
      conv_in_(c.latent_channels, coarsest(c), weight_init(c), o),
      mid_(coarsest(c), weight_init(c), o),
      norm_out_(c.channels(0), o),
      conv_out_(c.channels(0), kJanusChannels, weight_init(c), o) {
  child("conv_in", conv_in_);
  child("mid", mid_);
  int64_t in = coarsest(c);
  for (int64_t level = c.levels() - 1; level >= 0; --level) {
    const JanusLevel::Shape shape{in, c.channels(level), c.num_res_blocks + 1,
                                  level == c.levels() - 1,
                                  level == 0 ? Then::kStay : Then::kDouble};
    up_.push_back(std::make_unique<JanusLevel>(shape, weight_init(c), o));
    child("up." + std::to_string(up_.size() - 1), *up_.back());
    in = shape.out;
  }
  child("norm_out", norm_out_);
  child("conv_out", conv_out_);
}

torch::Tensor JanusVqDecoder::forward(const torch::Tensor& z_NhwL) {
  return run(z_NhwL, [this](const torch::Tensor& z_NhwL) {
    auto h_NHWC = mid_.forward(conv_in_.forward(z_NhwL));
    for (auto& level : up_) h_NHWC = level->forward(h_NHWC);
    return conv_out_.forward(norm_out_.forward(h_NHWC, true));
  });
}

double JanusVqDecoder::flops(double pixels) {
  double at = pixels / static_cast<double>(factor_ * factor_);
  double flops = flops_of_weights(conv_in_, at) + mid_.flops(at);
  for (size_t i = 0; i < up_.size(); ++i) {
    if (i > 0) at *= 4;
    flops += up_[i]->flops(at);
  }
  return flops + flops_of_weights(conv_out_, pixels);
}

}  // namespace veomni::model
