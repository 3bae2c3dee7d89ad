// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include "added_tokens.h"
#include "bpe_model.h"
#include "byte_alphabet.h"
#include "normalizer.h"
#include "pre_tokenizer.h"
#include "special_ids.h"
#include "utf8.h"
#include "veomni/base/error.h"

namespace veomni::data {

namespace {
std::vector<io::AddedToken> added_tokens(const io::TokenizerSpec& spec, bool normalized) {
  std::vector<io::AddedToken> chosen;
  for (io::AddedToken token : spec.added_tokens) {
    if (token.normalized != normalized) continue;
    if (normalized) token.content = normalize(token.content, spec.normalizers);
    chosen.push_back(std::move(token));
  }
  return chosen;
}
}  // namespace

struct Tokenizer::Impl {
  struct Entry {
    std::string token;  ///< as tokenizer.json writes it
    std::string bytes;  ///< as decode() writes it
    bool known = false;
    bool special = false;
  };

  Impl(io::TokenizerSpec spec_in, SpecialIds special_in);
  const Entry* entry(int32_t id) const {
    return id >= 0 && id < static_cast<int64_t>(entries.size())
               ? (entries[id].known ? &entries[id] : nullptr)
               : nullptr;
  }
  void encode_text(std::string_view text, Encoding& out) const;
  void encode_words(std::string_view normalized, Encoding& out) const;

  io::TokenizerSpec spec;
  SpecialIds special;
  AddedTokenMatcher raw_tokens, normalized_tokens;
  PreTokenizer pre_tokenizer;
  BpeModel bpe;
  std::vector<Entry> entries;
  std::unordered_map<std::string, int32_t> added_ids;
};

Tokenizer::Impl::Impl(io::TokenizerSpec spec_in, SpecialIds special_in)
    : spec(std::move(spec_in)),
      special(std::move(special_in)),
      raw_tokens(added_tokens(spec, false)),
      normalized_tokens(added_tokens(spec, true)),
      pre_tokenizer(spec.pre_tokenizers),
      bpe(spec),
      entries(spec.vocab_size()) {
  const auto set = [this](int32_t id, const std::string& token, bool is_special) {
    entries[id] = {token, bytes_of_token(token).value_or(token), true, is_special};
  };
  for (const auto& [token, id] : spec.vocab) set(id, token, false);
  for (const io::AddedToken& token : spec.added_tokens) {
    set(token.id, token.content, token.special);
    added_ids.emplace(token.content, token.id);
  }
}

void Tokenizer::Impl::encode_words(std::string_view normalized, Encoding& out) const {
  int64_t covered = out.ends.empty() ? 0 : out.ends.back();
  pre_tokenizer.for_each_word(normalized, [&](std::string_view word, bool added_space) {
    const size_t first = out.ids.size();
    bpe.encode_word(word, out.ids);
    const int64_t word_end = covered + static_cast<int64_t>(word.size()) - added_space;
    int64_t end = covered - added_space;
    for (size_t i = first; i < out.ids.size(); ++i) {
      end += static_cast<int64_t>(entries[out.ids[i]].bytes.size());
      out.ends.push_back(std::clamp(end, covered, word_end));
    }
    // Tokens for unknown bytes have other lengths than the bytes; a word's last token ends with the word.
    if (out.ids.size() > first) out.ends.back() = word_end;
    covered = word_end;
  });
}

void Tokenizer::Impl::encode_text(std::string_view text, Encoding& out) const {
  const auto put_token = [&out](int32_t id, std::string_view covered) {
    const int64_t before = out.ends.empty() ? 0 : out.ends.back();
    out.ids.push_back(id);
    out.ends.push_back(before + static_cast<int64_t>(covered.size()));
  };
  raw_tokens.split(
      text,
      [&](std::string_view between) {
        const std::string normalized = normalize(between, spec.normalizers);
        normalized_tokens.split(
            normalized, [&](std::string_view piece) { encode_words(piece, out); }, put_token);
      },
      put_token);
}

Tokenizer::Tokenizer(io::TokenizerSpec spec, SpecialIds special) {
  if (!special.eos && special.stop.empty()) {
    const SpecialIds defaults = default_special_ids(spec);
    special.eos = defaults.eos;
    special.stop = defaults.stop;
  }
  impl_ = std::make_shared<const Impl>(std::move(spec), std::move(special));
}

Tokenizer Tokenizer::from_file(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path file = fs::is_directory(path) ? fs::path(path) / "tokenizer.json" : fs::path(path);
  io::TokenizerSpec spec = io::read_tokenizer_json(file.string());
  SpecialIds special = read_special_ids(file.parent_path().string(), spec);
  return Tokenizer(std::move(spec), std::move(special));
}

Encoding Tokenizer::encode_with_ends(std::string_view text) const {
  Encoding out;
  if (first_invalid_utf8(text) == std::string_view::npos) {
    impl_->encode_text(text, out);
  } else {
    impl_->encode_text(to_valid_utf8(text), out);
  }
  return out;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::vector<int32_t> ids = encode_with_ends(text).ids;
  if (!add_special_tokens) return ids;
  std::vector<int32_t> all;
  for (const io::TemplateToken& token : spec().template_prefix)
    all.insert(all.end(), token.ids.begin(), token.ids.end());
  all.insert(all.end(), ids.begin(), ids.end());
  for (const io::TemplateToken& token : spec().template_suffix)
    all.insert(all.end(), token.ids.begin(), token.ids.end());
  return all;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  // Without a decoder a tokenizer.json joins the tokens themselves with spaces.
  const bool as_bytes = spec().byte_level_decoder;
  std::string text;
  bool first = true;
  for (const int32_t id : ids) {
    const Impl::Entry* entry = impl_->entry(id);
    if (!entry || (skip_special_tokens && entry->special)) continue;
    if (!as_bytes && !first) text += ' ';
    text += as_bytes ? entry->bytes : entry->token;
    first = false;
  }
  return to_valid_utf8(text);
}

std::string_view Tokenizer::bytes_of(int32_t id) const {
  const Impl::Entry* entry = impl_->entry(id);
  return entry ? std::string_view(entry->bytes) : std::string_view();
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  const std::string key(token);
  if (const auto added = impl_->added_ids.find(key); added != impl_->added_ids.end())
    return added->second;
  const auto found = spec().vocab.find(key);
  return found == spec().vocab.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

std::optional<std::string> Tokenizer::id_to_token(int32_t id) const {
  const Impl::Entry* entry = impl_->entry(id);
  return entry ? std::optional<std::string>(entry->token) : std::nullopt;
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(impl_->entries.size()); }

bool Tokenizer::is_special(int32_t id) const {
  const Impl::Entry* entry = impl_->entry(id);
  return entry && entry->special;
}

const SpecialIds& Tokenizer::special() const { return impl_->special; }
const io::TokenizerSpec& Tokenizer::spec() const { return impl_->spec; }

}  // namespace veomni::data
