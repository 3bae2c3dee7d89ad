// SPDX-License-Identifier: Apache-2.0
/// Text to token ids and back, with the ids of Hugging Face's `tokenizers` package.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "veomni/io/tokenizer_json.h"

namespace veomni::data {

/// Ids with a role, taken from the files beside tokenizer.json.
struct SpecialIds {
  std::optional<int32_t> bos, eos, pad;
  std::vector<int32_t>
      stop;  ///< ids that end a generation: eos and generation_config's eos_token_id
};

/// Ids and how far each reaches.
struct Encoding {
  std::vector<int32_t> ids;
  /// ends[i]: bytes of the normalised text that tokens 0..i cover (a space that a pre-tokenizer adds
  /// counts nothing). Normalisation never changes ASCII text, so an ASCII prefix keeps its length.
  std::vector<int64_t> ends;
};

/// Byte-level BPE as GPT-2, Qwen, Llama-3 and SmolLM use it: added tokens are cut out first, the rest
/// is normalised, split by the pre-tokenizer and merged by rank.
///
/// A cheap handle on immutable data: copies share it. Every member is const and may be called from
/// several threads at once; they share one bounded cache of words.
///
/// Bytes that are not UTF-8 never fail: each maximal ill-formed part becomes U+FFFD, the rule of
/// Unicode chapter 3.9 and of Rust's `from_utf8_lossy`. NUL is a character like any other.
///
/// Unicode tables are those of PCRE2 and utf8proc; for code points younger than these libraries'
/// Unicode version (14 with PCRE2 10.42) the split may differ from another library's.
class Tokenizer {
 public:
  /// @param path  a tokenizer.json or a directory that holds one; tokenizer_config.json and
  ///              generation_config.json beside it give the special ids.
  /// @throws ConfigError if the file is missing, Error as io::read_tokenizer_json.
  static Tokenizer from_file(const std::string& path);

  /// None: for jobs without text. Only empty() may be called.
  Tokenizer() = default;
  bool empty() const { return !impl_; }

  /// @throws Error if the spec is not byte-level (no ByteLevel step, or a step after it), a regex
  ///         does not compile, or a byte has neither a vocabulary entry nor an unk_token.
  explicit Tokenizer(io::TokenizerSpec spec, SpecialIds special = {});

  /// @param add_special_tokens  also the template's prefix and suffix (tokenizer.json's post_processor)
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = false) const;
  Encoding encode_with_ends(std::string_view text) const;

  /// Always valid UTF-8: token bytes that form none become U+FFFD. Ids outside the vocabulary (a
  /// model's padded embedding rows) give nothing.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;
  /// The token's own bytes, not necessarily UTF-8; "" outside the vocabulary.
  std::string_view bytes_of(int32_t id) const;

  std::optional<int32_t> token_to_id(std::string_view token) const;
  /// The token as tokenizer.json writes it ("Ġthe"); none outside the vocabulary.
  std::optional<std::string> id_to_token(int32_t id) const;
  /// Highest id + 1: the least number of embedding rows.
  int64_t vocab_size() const;
  bool is_special(int32_t id) const;

  const SpecialIds& special() const;
  const io::TokenizerSpec& spec() const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace veomni::data
