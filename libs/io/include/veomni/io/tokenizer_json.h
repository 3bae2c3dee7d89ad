// SPDX-License-Identifier: Apache-2.0
/// A Hugging Face `tokenizer.json` as a plain struct: parsed, validated, written. No tokenising here.
///
/// Taken: byte-level BPE models as GPT-2, Qwen, Llama-3 and SmolLM use them. Whatever this struct
/// cannot say (another model, normalizer, pre-tokenizer, ...) is refused by name instead of being
/// ignored: a tokenizer that is almost right gives wrong ids silently.
///
/// `truncation` and `padding` are not kept: they belong to a call, and packing never uses them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace veomni::io {

/// A token matched in the raw text before BPE sees it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      ///< left out by decode(skip_special_tokens)
  bool lstrip = false;       ///< also swallows whitespace to its left
  bool rstrip = false;       ///< also swallows whitespace to its right
  bool single_word = false;  ///< matches only between word boundaries
  bool normalized = false;   ///< matched in normalised text, not in the raw one
  bool operator==(const AddedToken&) const = default;
};

/// Applied in order; an empty list is the identity.
enum class NormalizerKind { kNfc };

/// One step of pre-tokenisation, applied in order to every piece the step before left.
struct PreTokenizerStep {
  enum class Kind {
    kByteLevel,  ///< [add a space], [split by GPT-2's regex], then bytes -> printable characters
    kSplit,      ///< split by `pattern`
    kDigits      ///< split digits from the rest, one by one when individual_digits
  };
  enum class Behavior { kIsolated, kRemoved };

  Kind kind = Kind::kByteLevel;
  bool add_prefix_space = false;  ///< kByteLevel
  bool use_regex = true;          ///< kByteLevel
  std::string pattern;            ///< kSplit: a regex in Oniguruma's syntax, as in the file
  Behavior behavior = Behavior::kIsolated;  ///< kSplit
  bool invert = false;                      ///< kSplit: the pattern matches pieces, not delimiters
  bool individual_digits = false;           ///< kDigits
  bool operator==(const PreTokenizerStep&) const = default;
};

/// A special token that a template puts before or after the text.
struct TemplateToken {
  std::string token;
  std::vector<int32_t> ids;  ///< usually one
  bool operator==(const TemplateToken&) const = default;
};

/// `tokenizer.json`, checked.
///
/// Holds after parsing: ids are >= 0 and unique; both parts of every merge and their concatenation are in
/// `vocab`; every added token has the id that Hugging Face's `tokenizers` gives it (the vocabulary's where
/// it is there, else the next free one: it ignores the file's); template ids and unk_token are known.
struct TokenizerSpec {
  std::unordered_map<std::string, int32_t> vocab;  ///< model.vocab as it is; may hold added tokens
  std::vector<std::pair<std::string, std::string>> merges;  ///< index = rank, lowest merges first
  std::vector<AddedToken> added_tokens;                     ///< in the file's order

  std::vector<NormalizerKind> normalizers;
  std::vector<PreTokenizerStep> pre_tokenizers;
  bool byte_level_decoder = false;  ///< decoder ByteLevel; false: decoder null

  /// add_special_tokens: prefix + text + suffix (post_processor TemplateProcessing, "single").
  std::vector<TemplateToken> template_prefix, template_suffix;

  std::string unk_token;       ///< "" = none: unknown pieces are dropped
  bool ignore_merges = false;  ///< a piece that is a vocabulary entry is taken whole
  bool byte_fallback = false;  ///< unknown characters become <0xNN> tokens
  bool fuse_unk = false;       ///< runs of unknown characters become one unk_token

  /// Highest id + 1 over vocab and added tokens: the number of embedding rows it needs.
  int64_t vocab_size() const;
  bool operator==(const TokenizerSpec&) const = default;
};

/// Parses and validates. Pure.
/// @param where  the file's name, for messages
/// @throws ConfigError naming `where`, the JSON path and the value: not JSON (with line and column), an
///         unsupported part ("normalizer.type 'Precompiled' is not supported (supported: ...)"), a
///         merge whose parts or result are not in the vocabulary, absent merges, ids given twice.
TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& where);

/// Reads a file. @throws ConfigError if it cannot be read, else as parse_tokenizer_json.
TokenizerSpec read_tokenizer_json(const std::string& path);

/// The JSON text that `tokenizers.Tokenizer.from_file` opens; parse_tokenizer_json of it gives an
/// equal spec. @throws Error if the spec breaks what TokenizerSpec promises.
std::string write_tokenizer_json(const TokenizerSpec& spec);

}  // namespace veomni::io
