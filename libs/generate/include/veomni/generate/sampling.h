// SPDX-License-Identifier: Apache-2.0
/// Drawing the next token from logits.
#pragma once

#include <cstdint>
#include <span>

#include "veomni/base/fields.h"

namespace veomni::generate {

struct SamplingOptions {
  double temperature = 0.0;
  double top_p = 1.0;
  int64_t top_k = 0;
  int64_t seed = 0;
};

template <typename Visitor> void visit_fields(Visitor& v, SamplingOptions& o) {
  v("temperature", o.temperature,
    "0: always the likeliest token (greedy); 1: the model's own distribution", at_least(0));
  v("top_p", o.top_p,
    "draw from the smallest set of likeliest tokens whose probability reaches this", between(0, 1));
  v("top_k", o.top_k, "draw from this many likeliest tokens; 0: all", at_least(0));
  v("seed", o.seed, "seed of the draws", at_least(0));
}

/// The next token of one sequence. Greedy takes the lowest id among equals. Temperature, then top-k, then top-p, the
/// order of `transformers`' logits processors; at least one token always remains.
/// @param logits    [V] finite
/// @param uniform   a number in [0, 1) that decides the draw; not used when greedy
int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double uniform);

}  // namespace veomni::generate
