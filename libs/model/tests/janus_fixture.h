// SPDX-License-Identifier: Apache-2.0
/// A small Janus tokenizer.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "veomni/model/registration.h"
#include "veomni/nn/materialize.h"

namespace veomni::model {

using nlohmann::json;

inline json small_config(const json& change = json::object()) {
  json config = {{"architectures", {"JanusVQVAE"}},
                 {"base_channels", 32},
                 {"channel_multiplier", {1, 2}},
                 {"num_res_blocks", 1},
                 {"latent_channels", 12},
                 {"embed_dim", 6},
                 {"num_embeddings", 19},
                 {"num_patches", 4},
                 {"initializer_range", 0.1}};
  config.update(change);
  return config;
}

inline std::unique_ptr<Decoder> make(const json& config, int64_t width,
                                     const nn::ParamOptions& options) {
  auto decoder = make_decoder(find_part("decoder", "image", "", config, "config.json"),
                              "config.json", width, options);
  nn::assign_names(*decoder);
  return decoder;
}

inline std::unique_ptr<Decoder> filled(const json& config = small_config(), int64_t width = 0,
                                       torch::ScalarType dtype = torch::kDouble) {
  auto decoder = make(config, width, {torch::kCPU, dtype});
  nn::initialize(*decoder, 1);
  return decoder;
}

}  // namespace veomni::model
