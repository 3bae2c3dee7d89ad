// SPDX-License-Identifier: Apache-2.0
/// What Janus's picture tokenizer needs of config.json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace veomni::model {

/// Keys and defaults as transformers' JanusVQVAEConfig, and of our own:
///   beta                       weight of the loss that moves codes to latents (0.25)
///   veomni_reconstruction      "mse" or "l1"
///   veomni_adversarial_weight  more than 0: a discriminator is built and trained with the tokenizer
struct JanusVqConfig {
  int64_t num_embeddings, embed_dim, latent_channels, base_channels, num_res_blocks, num_patches;
  std::vector<int64_t> channel_multiplier;
  int64_t aligner_layers;
  std::string hidden_act;  ///< of aligner and head
  double initializer_range, beta, adversarial_weight;
  bool l1;                ///< reconstruction by absolute instead of squared differences
  nlohmann::json source;  ///< the whole config.json

  int64_t levels() const { return static_cast<int64_t>(channel_multiplier.size()); }
  /// Pixels a side that become one code.
  int64_t factor() const { return int64_t{1} << (levels() - 1); }
  /// Channels of a resolution, the finest first.
  int64_t channels(int64_t level) const { return base_channels * channel_multiplier[level]; }

  static JanusVqConfig from_json(const nlohmann::json& config, const std::string& where);
};

inline constexpr int64_t kJanusChannels = 3;  // red, green, blue
inline constexpr int64_t kJanusGroups = 32;   // of every group norm
inline constexpr double kJanusNormEps = 1e-6;

}  // namespace veomni::model
