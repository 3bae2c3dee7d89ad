// SPDX-License-Identifier: Apache-2.0
#include "qwen3.h"
#include "veomni/io/json_fields.h"

namespace veomni::model {

Qwen3Config Qwen3Config::from_json(const nlohmann::json& json, const std::string& where) {
  // transformers takes 128 where the key is absent, whatever the width.
  Qwen3Config c{read_causal_config(json, where, "qwen3", {.head_dim = 128})};
  c.qk_norm = true;
  c.qkv_bias = c.out_bias = io::get_or(json, "attention_bias", false, where);
  return c;
}

}  // namespace veomni::model
