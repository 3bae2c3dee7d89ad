// SPDX-License-Identifier: Apache-2.0
#include "added_tokens.h"

#include <algorithm>

namespace veomni::data {

namespace {
// A word character as Unicode's UTS 18 (annex C) defines it.
const std::string kWord = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])";

// How many bytes the one match of an anchored pattern has; 0 without one.
size_t match_length(const Regex& regex, std::string_view text) {
  size_t length = 0;
  regex.for_each_match(text, [&](size_t begin, size_t end) { length = end - begin; });
  return length;
}
}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const std::vector<io::AddedToken>& tokens)
    : ends_with_word_(kWord + R"(\z)"),
      starts_with_word_(R"(\A)" + kWord),
      spaces_at_end_(R"(\s+\z)"),
      spaces_at_start_(R"(\A\s+)") {
  for (const io::AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    int node = 0;
    for (const unsigned char byte : token.content) {
      auto [child, is_new] = trie_[node].next.emplace(byte, static_cast<int>(trie_.size()));
      node = child->second;
      if (is_new) trie_.emplace_back();
    }
    trie_[node].token = static_cast<int>(tokens_.size());
    starts_[static_cast<unsigned char>(token.content[0])] = true;
    tokens_.push_back(token);
  }
}

int AddedTokenMatcher::longest_at(std::string_view text, size_t at) const {
  int longest = -1;
  int node = 0;
  for (; at < text.size(); ++at) {
    const auto child = trie_[node].next.find(static_cast<unsigned char>(text[at]));
    if (child == trie_[node].next.end()) break;
    node = child->second;
    if (trie_[node].token >= 0) longest = trie_[node].token;
  }
  return longest;
}

bool AddedTokenMatcher::stands_alone(std::string_view text, size_t begin, size_t end) const {
  // Only the neighbouring characters matter; a character has at most 4 bytes.
  size_t before = begin;
  while (before > 0 && begin - before < 4) {
    --before;
    if ((static_cast<unsigned char>(text[before]) & 0xC0) != 0x80) break;
  }
  size_t after = std::min(end + 1, text.size());
  while (after < text.size() && (static_cast<unsigned char>(text[after]) & 0xC0) == 0x80) ++after;
  return !ends_with_word_.matches(text.substr(before, begin - before)) &&
         !starts_with_word_.matches(text.substr(end, after - end));
}

void AddedTokenMatcher::split(
    std::string_view text, const std::function<void(std::string_view)>& on_text,
    const std::function<void(int32_t, std::string_view)>& on_token) const {
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const int found = starts_[static_cast<unsigned char>(text[at])] ? longest_at(text, at) : -1;
    if (found < 0) {
      ++at;
      continue;
    }
    const io::AddedToken& token = tokens_[found];
    size_t begin = at, end = at + token.content.size();
    at = end;
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    if (token.lstrip) begin -= match_length(spaces_at_end_, text.substr(done, begin - done));
    if (token.rstrip) end += match_length(spaces_at_start_, text.substr(end));
    // A token before may have swallowed whitespace that this one starts with.
    begin = std::max(begin, done);
    end = std::max(end, begin);
    if (begin > done) on_text(text.substr(done, begin - done));
    on_token(token.id, text.substr(begin, end - begin));
    done = end;
  }
  if (done < text.size()) on_text(text.substr(done));
}

}  // namespace veomni::data
