// SPDX-License-Identifier: Apache-2.0
/// Cuts normalised text into the words that BPE merges within.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "unicode_regex.h"
#include "veomni/io/tokenizer_json.h"

namespace veomni::data {

/// GPT-2's split, what ByteLevel with use_regex means.
extern const char* const kGpt2Pattern;

/// The steps of a tokenizer.json, compiled. Immutable.
class PreTokenizer {
 public:
  /// added_space: the word starts with a space that is not in the text (ByteLevel's add_prefix_space).
  using OnWord = std::function<void(std::string_view word, bool added_space)>;

  /// @throws Error unless the last step, and only that, is ByteLevel; if a pattern does not compile.
  explicit PreTokenizer(const std::vector<io::PreTokenizerStep>& steps);

  /// Words in order, as raw bytes. None is empty.
  void for_each_word(std::string_view text, const OnWord& on_word) const;

 private:
  struct Step {
    std::optional<Regex> regex;
    bool keep_matches = true;
    bool keep_gaps = true;
  };
  void split(size_t step, std::string_view piece, const OnWord& on_word) const;

  std::vector<Step> steps_;  // ByteLevel's own is the last
  bool add_prefix_space_ = false;
};

}  // namespace veomni::data
