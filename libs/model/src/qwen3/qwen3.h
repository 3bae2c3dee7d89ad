// SPDX-License-Identifier: Apache-2.0
/// Qwen3 dense (Qwen3 Technical Report, arXiv 2505.09388, section 2): the common decoder with RMSNorm on each head of q
/// and k.
#pragma once

#include "causal/causal_lm.h"

namespace veomni::model {

struct Qwen3Config : CausalConfig {
  static Qwen3Config from_json(const nlohmann::json& config, const std::string& where);
};

class Qwen3 final : public CausalLm {
 public:
  Qwen3(Qwen3Config config, const nn::ParamOptions& options)
      : CausalLm(std::move(config), options) {}
};

}  // namespace veomni::model
