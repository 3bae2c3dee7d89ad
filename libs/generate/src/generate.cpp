// SPDX-License-Identifier: Apache-2.0
#include "veomni/generate/generate.h"

#include <algorithm>
#include <unordered_map>

#include "packed_step.h"
#include "veomni/base/error.h"
#include "veomni/base/rng.h"
#include "veomni/generate/kv_cache.h"

namespace veomni::generate {

namespace {

class Run {
 public:
  Run(model::OmniModel& model, const std::vector<Prompt>& prompts, const GenerateOptions& options,
      const GenerateRules& rules)
      : model_(model),
        prompts_(prompts),
        options_(options),
        rules_(rules),
        caches_(model.foundation()) {}

  std::vector<Generation> all() {
    results_.resize(prompts_.size());
    for (size_t i = 0; i < prompts_.size(); ++i) start(i);
    while (!live_.empty()) {
      const auto next = step(model_, live_);
      const size_t count = live_.size();  // drawing may add shadows
      note_shadows();
      for (size_t i = 0; i < count; ++i) {
        if (!live_[i].is_shadow) draw(i, next);
      }
      drop_finished();
    }
    return std::move(results_);
  }

 private:
  void start(size_t index) {
    const Prompt& prompt = prompts_[index];
    VEOMNI_CHECK_CONFIG(!prompt.sample.ids.empty(), "prompt ", index,
                        " has no tokens; give it some text");
    Sequence sequence;
    sequence.prompt = index;
    sequence.read_prompt(prompt.sample);
    live_.push_back(std::move(sequence));
    if (!rules_.force.empty()) begin_item(live_.size() - 1, rules_.force);
  }

  // The begin token is read together with what precedes it; from then on codes are drawn.
  void begin_item(size_t at, const std::string& modality) {
    const MediaTokens& tokens = rules_.media.at(modality);
    const size_t index = live_[at].prompt;
    text_of(index).push_back(tokens.begin);
    live_[at].read_token(tokens.begin);
    live_[at].drawing = modality;
    live_[at].codes_left = model_.decoder(modality).num_tokens(tokens.grid);
    const bool guided = options_.guidance != 1.0 && !prompts_[index].unconditional.ids.empty();
    if (guided) live_.push_back(shadow_of(at));
    results_[index].segments.push_back({modality, {}});
  }

  // A sequence that has read the same but for the user's text.
  Sequence shadow_of(size_t at) {
    Sequence shadow;
    shadow.prompt = live_[at].prompt;
    shadow.is_shadow = true;
    shadow.drawing = live_[at].drawing;
    shadow.read_prompt(prompts_[shadow.prompt].unconditional);
    for (const auto& segment : results_[shadow.prompt].segments) {
      for (int32_t token : segment.tokens) {
        if (segment.modality == "text") {
          shadow.read_token(token);
        } else {
          shadow.read_code(segment.modality, token);
        }
      }
    }
    return shadow;
  }

  std::vector<int32_t>& text_of(size_t prompt) {
    auto& segments = results_[prompt].segments;
    if (segments.empty() || segments.back().modality != "text") segments.push_back({"text", {}});
    return segments.back().tokens;
  }

  double uniform(const Sequence& sequence) const {
    return KeyedRng(options_.sampling.seed, "sample", prompts_[sequence.prompt].stream,
                    sequence.drawn)
        .uniform_at(0);
  }

  void note_shadows() {
    shadow_at_.clear();
    for (size_t i = 0; i < live_.size(); ++i) {
      if (live_[i].is_shadow) shadow_at_[live_[i].prompt] = i;
    }
  }

  void draw(size_t at, const StepLogits& next) {
    if (live_[at].drawing.empty()) {
      draw_text(at, next);
    } else {
      draw_code(at, next);
    }
  }

  void draw_text(size_t at, const StepLogits& next) {
    Sequence& sequence = live_[at];
    const int32_t token = sample_token(next.of(at), options_.sampling, uniform(sequence));
    ++sequence.drawn;
    if (std::count(rules_.stop_ids.begin(), rules_.stop_ids.end(), token)) {
      sequence.finished = true;
      return;
    }
    for (const auto& [modality, tokens] : rules_.media) {
      if (token == tokens.begin) return begin_item(at, modality);
    }
    text_of(sequence.prompt).push_back(token);
    sequence.finished = ++sequence.text_drawn == options_.max_new_tokens;
    sequence.read_token(token);
  }

  void draw_code(size_t at, const StepLogits& next) {
    Sequence& sequence = live_[at];
    const std::string modality = sequence.drawing;
    std::vector<float> logits(next.of(at).begin(), next.of(at).end());
    const auto found = shadow_at_.find(sequence.prompt);
    Sequence* shadow = found == shadow_at_.end() ? nullptr : &live_[found->second];
    if (shadow) {
      const auto without = next.of(found->second);
      for (size_t c = 0; c < logits.size(); ++c)
        logits[c] = without[c] + static_cast<float>(options_.guidance) * (logits[c] - without[c]);
    }
    const int32_t code = sample_token(logits, options_.media_sampling, uniform(sequence));
    ++sequence.drawn;
    results_[sequence.prompt].segments.back().tokens.push_back(code);
    sequence.read_code(modality, code);
    if (shadow) shadow->read_code(modality, code);
    if (--sequence.codes_left > 0) return;
    sequence.drawing.clear();
    if (shadow) shadow->finished = true;
    sequence.finished = rules_.one_item;
    const int32_t end = rules_.media.at(modality).end;
    if (end < 0) return;
    text_of(sequence.prompt).push_back(end);
    sequence.read_token(end);
  }

  void drop_finished() {
    std::vector<int64_t> kept;
    std::vector<Sequence> going;
    for (size_t i = 0; i < live_.size(); ++i) {
      if (live_[i].finished) continue;
      // A shadow that was just made is in no cache; it joins with the next step.
      if (live_[i].is_cached) kept.push_back(static_cast<int64_t>(i));
      going.push_back(std::move(live_[i]));
    }
    live_ = std::move(going);
    caches_.keep(kept);
  }

  model::OmniModel& model_;
  const std::vector<Prompt>& prompts_;
  const GenerateOptions& options_;
  const GenerateRules& rules_;
  KvCacheScope caches_;
  std::vector<Sequence> live_;                    // shadows after their leaders
  std::unordered_map<size_t, size_t> shadow_at_;  // index in live_, by prompt
  std::vector<Generation> results_;
};

}  // namespace

std::vector<int32_t> Generation::text() const {
  std::vector<int32_t> ids;
  for (const auto& segment : segments) {
    if (segment.modality == "text")
      ids.insert(ids.end(), segment.tokens.begin(), segment.tokens.end());
  }
  return ids;
}

std::vector<int32_t> Generation::codes(const std::string& modality) const {
  for (const auto& segment : segments) {
    if (segment.modality == modality) return segment.tokens;
  }
  return {};
}

std::vector<Generation> generate(model::OmniModel& model, const std::vector<Prompt>& prompts,
                                 const GenerateOptions& options, const GenerateRules& rules) {
  torch::NoGradGuard no_grad;
  return Run(model, prompts, options, rules).all();
}

}  // namespace veomni::generate
