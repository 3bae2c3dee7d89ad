// SPDX-License-Identifier: Apache-2.0
/// Trains a byte-level BPE from texts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "veomni/io/tokenizer_json.h"

namespace veomni::data {

/// Qwen2's split: words with one leading non-letter, single digits, punctuation runs, newlines.
extern const char* const kQwen2Pattern;

/// `<|endoftext|>`, those of the chat template `qwen`, and those that MediaOptions names.
std::vector<std::string> default_special_tokens();

struct BpeTrainerOptions {
  /// Ids in all: 256 bytes, merges, special tokens. At least 256 + special_tokens.size().
  int64_t vocab_size = 2048;
  /// Put after the merges, in this order, as special added tokens.
  std::vector<std::string> special_tokens = default_special_tokens();
  /// "qwen2" (NFC, Qwen2's split) or "gpt2" (no normaliser, GPT-2's split).
  std::string style = "qwen2";
  /// A pair seen less often than this is never merged.
  int64_t min_frequency = 2;
};

/// Gives the next text, or none at the end.
using TextIterator = std::function<std::optional<std::string>()>;

/// Merges the most frequent pair of neighbours until vocab_size is reached; of equally frequent pairs
/// the one with the lower left id, then the lower right id. Ids: the 256 bytes in the order of their
/// printable characters, then the merges as made, then the special tokens.
///
/// Pure: equal texts and options give an equal spec. Special tokens in the texts are cut out first.
/// Fewer ids than asked come back when no pair reaches min_frequency (no texts: the 256 bytes).
/// Memory grows with the number of distinct words, not with the text.
/// @throws ConfigError for a vocab_size below the least, an unknown style or an empty special token.
io::TokenizerSpec train_bpe(const TextIterator& next_text, const BpeTrainerOptions& options);

}  // namespace veomni::data
