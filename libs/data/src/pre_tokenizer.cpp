// SPDX-License-Identifier: Apache-2.0
#include "pre_tokenizer.h"

#include "veomni/base/error.h"

namespace veomni::data {

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

PreTokenizer::PreTokenizer(const std::vector<io::PreTokenizerStep>& steps) {
  using Kind = io::PreTokenizerStep::Kind;
  VEOMNI_CHECK(!steps.empty() && steps.back().kind == Kind::kByteLevel,
               "this tokenizer is not byte-level: its last pre-tokenizer is not ByteLevel");
  for (size_t i = 0; i < steps.size(); ++i) {
    const io::PreTokenizerStep& from = steps[i];
    Step step;
    switch (from.kind) {
      case Kind::kByteLevel:
        VEOMNI_CHECK(i + 1 == steps.size(), "pre-tokenizer ", i, ": ByteLevel must be the last of ",
                     steps.size());
        if (from.use_regex) step.regex.emplace(kGpt2Pattern);
        add_prefix_space_ = from.add_prefix_space;
        break;
      case Kind::kSplit: {
        step.regex.emplace(from.pattern);
        const bool removed = from.behavior == io::PreTokenizerStep::Behavior::kRemoved;
        step.keep_matches = !removed || from.invert;
        step.keep_gaps = !removed || !from.invert;
        break;
      }
      case Kind::kDigits:
        step.regex.emplace(from.individual_digits ? R"(\p{N})" : R"(\p{N}+)");
        break;
    }
    steps_.push_back(std::move(step));
  }
}

void PreTokenizer::for_each_word(std::string_view text, const OnWord& on_word) const {
  if (!text.empty()) split(0, text, on_word);
}

void PreTokenizer::split(size_t at, std::string_view piece, const OnWord& on_word) const {
  const bool last = at + 1 == steps_.size();
  std::string with_space;
  const bool adds_space = last && add_prefix_space_ && piece.front() != ' ';
  if (adds_space) piece = with_space = " " + std::string(piece);
  const auto pass_on = [&](size_t begin, size_t end) {
    if (begin == end) return;
    const std::string_view part = piece.substr(begin, end - begin);
    if (last) {
      on_word(part, adds_space && begin == 0);
    } else {
      split(at + 1, part, on_word);
    }
  };
  const Step& step = steps_[at];
  if (!step.regex) {
    pass_on(0, piece.size());
    return;
  }
  size_t done = 0;
  step.regex->for_each_match(piece, [&](size_t begin, size_t end) {
    if (step.keep_gaps) pass_on(done, begin);
    if (step.keep_matches) pass_on(begin, end);
    done = end;
  });
  if (step.keep_gaps) pass_on(done, piece.size());
}

}  // namespace veomni::data
