// SPDX-License-Identifier: Apache-2.0
/// Finds added tokens in text before anything else sees it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "unicode_regex.h"
#include "veomni/io/tokenizer_json.h"

namespace veomni::data {

/// A set of tokens, matched left to right, the longest first. Immutable.
class AddedTokenMatcher {
 public:
  /// Tokens with empty content are ignored.
  explicit AddedTokenMatcher(const std::vector<io::AddedToken>& tokens);

  /// Cuts `text` (valid UTF-8): on_text gets what lies between tokens (never empty), on_token a token's
  /// id and the bytes it covers, whitespace it swallowed (lstrip, rstrip) included.
  void split(std::string_view text, const std::function<void(std::string_view)>& on_text,
             const std::function<void(int32_t id, std::string_view)>& on_token) const;

 private:
  struct Node {
    std::map<unsigned char, int> next;
    int token = -1;
  };
  /// The longest token that starts at text[at], or -1.
  int longest_at(std::string_view text, size_t at) const;
  bool stands_alone(std::string_view text, size_t begin, size_t end) const;

  std::vector<io::AddedToken> tokens_;
  std::vector<Node> trie_{1};
  std::vector<bool> starts_ = std::vector<bool>(256, false);
  Regex ends_with_word_, starts_with_word_, spaces_at_end_, spaces_at_start_;
};

}  // namespace veomni::data
