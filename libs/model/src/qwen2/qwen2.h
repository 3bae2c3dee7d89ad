// SPDX-License-Identifier: Apache-2.0
/// Qwen2 and Qwen2.5 (arXiv 2407.10671, section 2): the common decoder with biases on q, k and v; also the language
/// model of Qwen2-VL (arXiv 2409.12191, section 2), whose rotary embedding has three axes.
#pragma once

#include "causal/causal_lm.h"

namespace veomni::model {

struct Qwen2Config : CausalConfig {
  /// Also takes the text part of Qwen2-VL: its `text_config`, or the whole config.json of older exporters, which nested
  /// nothing. `source` is then what Qwen2ForCausalLM writes, since text alone makes the three axes one.
  static Qwen2Config from_json(const nlohmann::json& config, const std::string& where);
};

class Qwen2 final : public CausalLm {
 public:
  Qwen2(Qwen2Config config, const nn::ParamOptions& options)
      : CausalLm(std::move(config), options) {}
};

}  // namespace veomni::model
