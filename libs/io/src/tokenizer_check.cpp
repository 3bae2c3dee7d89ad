// SPDX-License-Identifier: Apache-2.0
#include "tokenizer_check.h"

#include <algorithm>
#include <unordered_set>

#include "in_quotes.h"
#include "veomni/base/error.h"

namespace veomni::io {

namespace {

void check_vocab(const TokenizerSpec& spec, const std::string& where) {
  std::unordered_set<int32_t> ids;
  ids.reserve(spec.vocab.size());
  for (const auto& [token, id] : spec.vocab) {
    VEOMNI_CHECK_CONFIG(id >= 0, where, ": model.vocab gives token ", in_quotes(token), " the id ",
                        id);
    VEOMNI_CHECK_CONFIG(ids.insert(id).second, where, ": model.vocab gives the id ", id,
                        " to two tokens, one of them ", in_quotes(token));
  }
}

void check_merges(const TokenizerSpec& spec, const std::string& where) {
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto& [left, right] = spec.merges[rank];
    for (const std::string& token : {left, right, left + right}) {
      VEOMNI_CHECK_CONFIG(spec.vocab.count(token) > 0, where, ": model.merges[", rank, "] (",
                          in_quotes(left), " + ", in_quotes(right), ") needs the token ",
                          in_quotes(token), ", which model.vocab lacks");
    }
  }
}

/// Ids as `tokenizers` assigns them when it loads the file.
void check_added_tokens(const TokenizerSpec& spec, const std::string& where) {
  const auto vocab_size = static_cast<int64_t>(spec.vocab.size());
  std::unordered_set<std::string_view> contents;
  std::unordered_set<int64_t> vocab_ids;
  for (const auto& [token, id] : spec.vocab) vocab_ids.insert(id);
  int64_t highest = -1;
  for (size_t i = 0; i < spec.added_tokens.size(); ++i) {
    const AddedToken& token = spec.added_tokens[i];
    const std::string at =
        where + ": added_tokens[" + std::to_string(i) + "] " + in_quotes(token.content);
    VEOMNI_CHECK_CONFIG(!token.content.empty(), at, " is empty");
    VEOMNI_CHECK_CONFIG(contents.insert(token.content).second, at, " is there twice");
    const auto in_vocab = spec.vocab.find(token.content);
    const bool known = in_vocab != spec.vocab.end();
    const int64_t expected = known ? in_vocab->second : std::max(highest + 1, vocab_size);
    VEOMNI_CHECK_CONFIG(token.id == expected, at, " has the id ", token.id, ", its id is ",
                        expected, known ? " in model.vocab" : " by its place (the next free one)");
    VEOMNI_CHECK_CONFIG(known || vocab_ids.count(expected) == 0, at, " has the id ", expected,
                        ", which model.vocab gives to another token (its ids have holes)");
    highest = std::max(highest, expected);
  }
}

void check_template(const TokenizerSpec& spec, const std::string& where) {
  std::unordered_set<int32_t> ids;
  for (const auto& [token, id] : spec.vocab) ids.insert(id);
  for (const AddedToken& token : spec.added_tokens) ids.insert(token.id);
  for (const auto* tokens : {&spec.template_prefix, &spec.template_suffix}) {
    for (const TemplateToken& token : *tokens) {
      for (const int32_t id : token.ids) {
        VEOMNI_CHECK_CONFIG(ids.count(id) > 0, where,
                            ": post_processor.special_tokens: ", in_quotes(token.token),
                            " has the id ", id, ", which no token has");
      }
    }
  }
}

}  // namespace

void check_tokenizer(const TokenizerSpec& spec, const std::string& where) {
  check_vocab(spec, where);
  check_merges(spec, where);
  check_added_tokens(spec, where);
  if (!spec.template_prefix.empty() || !spec.template_suffix.empty()) check_template(spec, where);
  const auto is_unk = [&](const AddedToken& token) { return token.content == spec.unk_token; };
  VEOMNI_CHECK_CONFIG(spec.unk_token.empty() || spec.vocab.count(spec.unk_token) > 0 ||
                          std::any_of(spec.added_tokens.begin(), spec.added_tokens.end(), is_unk),
                      where, ": model.unk_token ", in_quotes(spec.unk_token),
                      " is in neither model.vocab nor added_tokens");
}

}  // namespace veomni::io
