// SPDX-License-Identifier: Apache-2.0
/// Janus's picture tokenizer and generation head (Wu et al., arXiv 2410.13848, section 3.1): pictures as codes that a
/// foundation predicts.
#pragma once

#include <memory>

#include "config.h"
#include "discriminator.h"
#include "generation_head.h"
#include "veomni/model/decoder.h"
#include "veomni/nn/layers.h"
#include "vq_coders.h"

namespace veomni::model {

/// Features: pixels [P, 3] of normalised pictures, row by row, so that all of a call are [N, H, W, 3]. Grids: {3, H, W}; the
/// pictures of one call have one size, H and W multiples of config.factor(). Codes: row by row, (H / factor) · (W / factor)
/// a picture.
///
/// With z the latents of a picture and e the codes nearest to them (in plain squared distance, as transformers looks them
/// up), pictures are drawn from e / |e|. Losses, each a sum over pictures of a mean over the picture's elements:
///   reconstruction  (x̂ − x)², or |x̂ − x| with veomni_reconstruction: l1; e takes the place of z with z's gradient
///   commitment      (z − sg(e))², weight 1: moves latents to codes
///   codebook        (e − sg(z))², weight beta: moves codes to latents
///   adversarial, discriminator   only with veomni_adversarial_weight, the first multiplied by it
/// where sg stops the gradient. transformers' weights are these: beta is the codebook's, not the commitment's.
///
/// Parameters have the names of a saved JanusVQVAE; those of the head begin with "generation." where JanusModel's begin
/// with "generation_".
class JanusVq16 final : public Decoder {
 public:
  JanusVq16(JanusVqConfig config, int64_t lm_width, const nn::ParamOptions& options);

  torch::Tensor encode(const torch::Tensor& features_PF, const std::vector<Grid>& grids) override;
  torch::Tensor lm_generate(const torch::Tensor& codes_R, const std::vector<Grid>& grids) override;
  torch::Tensor reconstruct(const torch::Tensor& features_PF,
                            const std::vector<Grid>& grids) override;
  std::map<std::string, torch::Tensor> tokenizer_losses(const torch::Tensor& features_PF,
                                                        const std::vector<Grid>& grids,
                                                        double scale, bool quantize) override;
  torch::Tensor latents(const torch::Tensor& features_PF, const std::vector<Grid>& grids) override;
  nn::Parameter codebook() override { return codebook_.weight(); }

  torch::Tensor lm_embed(const torch::Tensor& codes_R) override;
  torch::Tensor lm_head(const torch::Tensor& hidden_RD) override;
  TokenLoss lm_loss(const torch::Tensor& hidden_RD, const torch::Tensor& codes_R,
                    const torch::Tensor& weights_R) override;

  int64_t feature_width() const override { return kJanusChannels; }
  int64_t num_codes() const override { return config_.num_embeddings; }
  int64_t lm_width() const override { return lm_width_; }
  int64_t num_tokens(const Grid& grid) const override;
  Grid default_grid() const override;

  const nlohmann::json& config() const override { return config_.source; }
  io::RuleSet rules() const override { return io::RuleSet(rules_, ignored_); }
  bool is_tokenizer(const std::string& parameter) const override;
  bool is_code_embedding(const std::string& parameter) const override;
  std::unique_ptr<media::Processor> make_processor(
      const nlohmann::json& preprocessor) const override;
  Flops flops(const Grid& grid) const override;

 private:
  struct Size {
    int64_t pictures, height, width;  // of the pictures, in pixels
  };
  Size size_of(const std::vector<Grid>& grids) const;
  torch::Tensor pictures(const torch::Tensor& features_PF, const Size& size) const;
  torch::Tensor encode_latents(const torch::Tensor& x_NHWC);
  torch::Tensor decode_latents(const torch::Tensor& z_RE, const Size& size);
  torch::Tensor nearest(const torch::Tensor& z_RE) const;
  JanusGeneration& generation() const;
  void make_rules();

  JanusVqConfig config_;
  int64_t lm_width_;
  std::vector<io::TensorRule> rules_;
  std::vector<std::string> ignored_;
  std::unique_ptr<JanusVqEncoder> encoder_;
  std::unique_ptr<JanusVqDecoder> decoder_;
  nn::Embedding codebook_;
  nn::Linear quant_conv_, post_quant_conv_;
  std::unique_ptr<JanusDiscriminator> discriminator_;
  std::unique_ptr<JanusGeneration> generation_;
};

}  // namespace veomni::model
