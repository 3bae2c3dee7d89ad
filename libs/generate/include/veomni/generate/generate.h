// SPDX-License-Identifier: Apache-2.0
/// Prompts in, continuations out.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "veomni/generate/sampling.h"
#include "veomni/model/omni_model.h"

namespace veomni::generate {

struct GenerateOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling;
  std::vector<int32_t>
      stop_ids;  ///< a sequence ends when one of these is drawn; it is not part of the result
};

template <typename Visitor> void visit_fields(Visitor& v, GenerateOptions& o) {
  v("max_new_tokens", o.max_new_tokens, "longest answer in tokens", at_least(1));
  v("sampling", o.sampling, "how the next token is drawn");
}

/// Continues each prompt until a stop id or max_new_tokens: one packed prefill, then one packed step a token for all
/// that still run. Sequence i's draws depend on (seed, i, position) only, not on its neighbours.
///
/// Collective where the model is sharded: every rank calls it with the same prompts and gets the same result.
/// @throws ConfigError for an empty prompt
std::vector<std::vector<int32_t>> generate(model::OmniModel& model,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateOptions& options);

}  // namespace veomni::generate
