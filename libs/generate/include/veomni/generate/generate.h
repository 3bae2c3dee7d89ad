// SPDX-License-Identifier: Apache-2.0
/// Prompts in, text and media out.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "veomni/data/sample.h"
#include "veomni/generate/sampling.h"
#include "veomni/model/omni_model.h"

namespace veomni::generate {

/// The part of a recipe, or of the command line.
struct GenerateOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling;
  SamplingOptions media_sampling{.temperature = 1.0, .top_p = 0.95};
  double guidance = 1.0;
};

template <typename Visitor> void visit_fields(Visitor& v, GenerateOptions& o) {
  v("max_new_tokens", o.max_new_tokens, "longest answer in text tokens", at_least(1));
  v("sampling", o.sampling, "how the next text token is drawn");
  v("media_sampling", o.media_sampling, "how the next code of a picture or sound is drawn");
  v("guidance", o.guidance,
    "classifier-free guidance of pictures: logits move from those without the user's text to this "
    "multiple of the way to those with it; 1: off",
    at_least(0));
}

/// How one modality is begun and ended in a sequence.
struct MediaTokens {
  int32_t begin = -1;  ///< drawing it as text begins an item; it is part of the text
  int32_t end = -1;    ///< follows the item's last code, whatever the model would draw
  model::Grid grid{};  ///< of what is drawn
};

/// What the caller knows beyond the options.
struct GenerateRules {
  std::vector<int32_t>
      stop_ids;  ///< a sequence ends when one of these is drawn; it is not part of the result
  std::map<std::string, MediaTokens> media;  ///< what may be drawn, by modality
  std::string force;      ///< modality that every answer begins with; "": as the model likes
  bool one_item = false;  ///< an answer ends with the last code of its first item
};

struct Prompt {
  data::Sample sample;         ///< ids and media; labels are not read
  data::Sample unconditional;  ///< for guidance; not read while guidance is 1
  uint64_t stream = 0;         ///< keys the draws: equal streams draw equal numbers
};

/// Text ids, or the codes of one item.
struct Segment {
  std::string modality;  ///< "text", "image"
  std::vector<int32_t> tokens;
};

/// Segments in order. Text that begins or ends an item holds these tokens.
struct Generation {
  std::vector<Segment> segments;
  /// Ids of all text segments.
  std::vector<int32_t> text() const;
  /// The codes of the first item of a modality; none: empty.
  std::vector<int32_t> codes(const std::string& modality) const;
};

/// Continues each prompt until a stop id or max_new_tokens: one packed prefill, then one packed step a token for all
/// that still run, whether they write or draw. While an item is drawn under guidance, a second sequence without the
/// user's text runs beside and is given the same codes: logits = without + guidance · (with − without).
/// A sequence's draws depend on (seed, stream, position) only, not on its neighbours.
///
/// Collective where the model is sharded: every rank calls it with the same prompts and gets the same result.
/// @throws ConfigError for an empty prompt
std::vector<Generation> generate(model::OmniModel& model, const std::vector<Prompt>& prompts,
                                 const GenerateOptions& options, const GenerateRules& rules);

}  // namespace veomni::generate
