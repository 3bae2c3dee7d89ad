// SPDX-License-Identifier: Apache-2.0
#include "vq16.h"

#include "processor.h"
#include "veomni/base/error.h"
#include "veomni/nn/materialize.h"
#include "veomni/ops/embedding.h"
#include "veomni/ops/vq.h"

namespace veomni::model {

namespace {

const char* const kHead = "generation.";

nn::Init weight_init(const JanusVqConfig& c) { return nn::Init::normal(c.initializer_range); }

// The value of q and the gradient of z. (z − z is an exact 0, where z + (q − z) would be rounded.)
torch::Tensor straight_through(const torch::Tensor& z_RE, const torch::Tensor& q_RE) {
  return q_RE.detach() + (z_RE - z_RE.detach());
}

torch::Tensor no_codes(const torch::Tensor& like) {
  return torch::empty({0}, like.options().dtype(torch::kLong));
}

}  // namespace

JanusVq16::JanusVq16(JanusVqConfig config, int64_t lm_width, const nn::ParamOptions& o)
    : config_(std::move(config)),
      lm_width_(lm_width),
      encoder_(std::make_unique<JanusVqEncoder>(config_, o)),
      decoder_(std::make_unique<JanusVqDecoder>(config_, o)),
      codebook_(config_.num_embeddings, config_.embed_dim, weight_init(config_), o),
      quant_conv_(config_.latent_channels, config_.embed_dim, true, weight_init(config_), o),
      post_quant_conv_(config_.embed_dim, config_.latent_channels, true, weight_init(config_), o) {
  child("encoder", *encoder_);
  child("quantize.embedding", codebook_);
  child("quant_conv", quant_conv_);
  child("post_quant_conv", post_quant_conv_);
  child("decoder", *decoder_);
  if (config_.adversarial_weight > 0) {
    discriminator_ = std::make_unique<JanusDiscriminator>(weight_init(config_), o);
    child("discriminator", *discriminator_);
  }
  if (lm_width > 0) {
    generation_ = std::make_unique<JanusGeneration>(config_, lm_width, o);
    child("generation", *generation_);
    config_.source["projection_dim"] = config_.source["image_token_embed_dim"] = lm_width;
  } else {
    ignored_ = {"generation_*"};  // a tokenizer alone, read from a directory that has a head too
  }
  make_rules();
}

// One rule a parameter: what the files call a convolution of single pixels is a matrix here.
void JanusVq16::make_rules() {
  const std::string head = kHead;
  for (const auto& [name, shape] : nn::param_shapes(*this)) {
    io::TensorRule rule{.param = name, .files = {name}};
    if (name.starts_with(head)) {
      rule.files = {"generation_" + name.substr(head.size())};
    } else if (shape.size() == 2 && name != "quantize.embedding.weight") {
      rule.reshape = {shape[0], shape[1], 1, 1};
    }
    rules_.push_back(std::move(rule));
  }
}

JanusVq16::Size JanusVq16::size_of(const std::vector<Grid>& grids) const {
  const Grid first = grids.empty() ? default_grid() : grids.front();
  const int64_t f = config_.factor();
  VEOMNI_CHECK_CONFIG(first[0] == kJanusChannels && first[1] > 0 && first[2] > 0 &&
                          first[1] % f == 0 && first[2] % f == 0,
                      "a picture of ", first[0], " channels, ", first[1], " x ", first[2],
                      " pixels: janus_vq16 needs ", kJanusChannels,
                      " channels, and height and width that are multiples of ", f);
  for (const Grid& grid : grids) {
    VEOMNI_CHECK_CONFIG(grid == first, "pictures of ", first[1], " x ", first[2], " and of ",
                        grid[1], " x ", grid[2],
                        " in one batch: janus_vq16 needs one size; let its preprocessor resize");
  }
  return {static_cast<int64_t>(grids.size()), first[1], first[2]};
}

torch::Tensor JanusVq16::pictures(const torch::Tensor& features_PF, const Size& size) const {
  VEOMNI_CHECK(features_PF.dim() == 2 && features_PF.size(1) == kJanusChannels &&
                   features_PF.size(0) == size.pictures * size.height * size.width,
               "features of shape ", features_PF.sizes(), " for ", size.pictures, " pictures of ",
               size.height, " x ", size.width, " pixels and ", kJanusChannels, " channels");
  return features_PF.reshape({size.pictures, size.height, size.width, kJanusChannels});
}

torch::Tensor JanusVq16::encode_latents(const torch::Tensor& x_NHWC) {
  const auto z_NhwL = encoder_->forward(x_NHWC);
  const int64_t R = z_NhwL.size(0) * z_NhwL.size(1) * z_NhwL.size(2);
  return quant_conv_.forward(z_NhwL.reshape({R, config_.latent_channels}));
}

torch::Tensor JanusVq16::decode_latents(const torch::Tensor& z_RE, const Size& size) {
  const int64_t f = config_.factor();
  const auto z_RL = post_quant_conv_.forward(ops::l2_normalize(z_RE));
  return decoder_->forward(
      z_RL.view({size.pictures, size.height / f, size.width / f, config_.latent_channels}));
}

torch::Tensor JanusVq16::nearest(const torch::Tensor& z_RE) const {
  return ops::nearest_code(z_RE.detach(), codebook_.weight().value().detach());
}

torch::Tensor JanusVq16::encode(const torch::Tensor& features_PF, const std::vector<Grid>& grids) {
  return nearest(latents(features_PF, grids));
}

torch::Tensor JanusVq16::latents(const torch::Tensor& features_PF, const std::vector<Grid>& grids) {
  torch::NoGradGuard no_grad;
  return encode_latents(pictures(features_PF, size_of(grids)));
}

torch::Tensor JanusVq16::lm_generate(const torch::Tensor& codes_R, const std::vector<Grid>& grids) {
  torch::NoGradGuard no_grad;
  const Size size = size_of(grids);
  const int64_t each = num_tokens({kJanusChannels, size.height, size.width});
  VEOMNI_CHECK(codes_R.numel() == size.pictures * each, codes_R.numel(), " codes for ",
               size.pictures, " pictures of ", each, " codes");
  return decode_latents(codebook_.forward(codes_R), size).reshape({-1, kJanusChannels});
}

torch::Tensor JanusVq16::reconstruct(const torch::Tensor& features_PF,
                                     const std::vector<Grid>& grids) {
  const Size size = size_of(grids);
  const auto z_RE = encode_latents(pictures(features_PF, size));
  const auto codes_R = nearest(z_RE);
  torch::Tensor e_RE;
  {
    torch::NoGradGuard no_grad;
    e_RE = codebook_.forward(codes_R);
  }
  // No rows of the codebook: it has no part in this gradient, and stays in the graph.
  const auto q_RE =
      torch::cat({straight_through(z_RE, e_RE), codebook_.forward(no_codes(codes_R))});
  return decode_latents(q_RE, size).reshape({features_PF.size(0), kJanusChannels});
}

std::map<std::string, torch::Tensor> JanusVq16::tokenizer_losses(const torch::Tensor& features_PF,
                                                                 const std::vector<Grid>& grids,
                                                                 double scale, bool quantize) {
  const Size size = size_of(grids);
  const auto x_NHWC = pictures(features_PF, size);
  const auto z_RE = encode_latents(x_NHWC);
  // Without quantisation the two terms are those of no latents.
  const auto looked_up_RE = quantize ? z_RE : z_RE.narrow(0, 0, 0);
  const auto e_RE = codebook_.forward(nearest(looked_up_RE));
  const auto drawn_NHWC = decode_latents(quantize ? straight_through(z_RE, e_RE) : z_RE, size);

  const auto values = static_cast<double>(size.height * size.width * kJanusChannels);
  const auto latents = static_cast<double>(num_tokens({kJanusChannels, size.height, size.width}) *
                                           config_.embed_dim);
  const auto distance = config_.l1 ? ops::absolute_error : ops::squared_error;
  std::map<std::string, torch::Tensor> losses = {
      {"reconstruction", distance(drawn_NHWC, x_NHWC.detach(), scale / values)},
      {"commitment", ops::squared_error(looked_up_RE, e_RE.detach(), scale / latents)},
      {"codebook",
       ops::squared_error(e_RE, looked_up_RE.detach(), config_.beta * scale / latents)}};
  if (discriminator_) {
    auto terms = discriminator_->losses(drawn_NHWC, x_NHWC, config_.adversarial_weight, scale);
    losses["adversarial"] = terms.generator;
    losses["discriminator"] = terms.discriminator;
  }
  return losses;
}

JanusGeneration& JanusVq16::generation() const {
  VEOMNI_CHECK(generation_, "this janus_vq16 has no head: it was built without a foundation");
  return *generation_;
}

torch::Tensor JanusVq16::lm_embed(const torch::Tensor& codes_R) {
  return generation().embed(codes_R);
}

torch::Tensor JanusVq16::lm_head(const torch::Tensor& hidden_RD) {
  return generation().logits(hidden_RD);
}

TokenLoss JanusVq16::lm_loss(const torch::Tensor& hidden_RD, const torch::Tensor& codes_R,
                             const torch::Tensor& weights_R) {
  return generation().loss(hidden_RD, codes_R, weights_R);
}

int64_t JanusVq16::num_tokens(const Grid& grid) const {
  return (grid[1] / config_.factor()) * (grid[2] / config_.factor());
}

Grid JanusVq16::default_grid() const {
  const int64_t side = config_.num_patches * config_.factor();
  return {kJanusChannels, side, side};
}

bool JanusVq16::is_tokenizer(const std::string& parameter) const {
  return !parameter.starts_with(kHead);
}

bool JanusVq16::is_code_embedding(const std::string& parameter) const {
  return parameter == "generation.embeddings.weight";
}

std::unique_ptr<media::Processor> JanusVq16::make_processor(
    const nlohmann::json& preprocessor) const {
  return make_janus_processor(preprocessor, default_grid()[1], config_.factor());
}

Decoder::Flops JanusVq16::flops(const Grid& grid) const {
  const auto pixels = static_cast<double>(grid[1] * grid[2]);
  const auto codes = static_cast<double>(num_tokens(grid));
  const auto E = static_cast<double>(config_.embed_dim);
  const double map = 2 * codes * E * static_cast<double>(config_.latent_channels);
  const double look_up = 3 * codes * E * static_cast<double>(config_.num_embeddings);
  return {encoder_->flops(pixels) + map + look_up, map + decoder_->flops(pixels),
          generation_ ? generation_->flops_per_token() : 0};
}

}  // namespace veomni::model
