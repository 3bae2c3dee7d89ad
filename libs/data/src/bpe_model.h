// SPDX-License-Identifier: Apache-2.0
/// Byte-level BPE: one word's bytes to ids.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "veomni/io/tokenizer_json.h"
#include "word_cache.h"

namespace veomni::data {

/// Merges by rank, lowest first, then leftmost. O(n log n) in a word's bytes. Thread-safe.
class BpeModel {
 public:
  /// @throws Error for a vocabulary that lacks a byte while byte_fallback is on (fallback then means
  ///         UTF-8 bytes of stand-in characters: no known tokenizer does that).
  explicit BpeModel(const io::TokenizerSpec& spec);

  /// Appends the word's ids.
  void encode_word(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    int32_t rank, id;
  };
  struct Symbol {
    int32_t id;
    int prev, next;
    bool alive;
  };
  struct Candidate;
  std::vector<Symbol> byte_symbols(std::string_view word) const;
  std::vector<int32_t> merge_word(std::string_view word) const;
  const Merge* find_merge(int32_t left, int32_t right) const;

  std::vector<int32_t> id_of_byte_;  // -1: not in the vocabulary
  std::unordered_map<uint64_t, Merge> merges_;
  std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>
      whole_words_;  // with ignore_merges
  int32_t unk_id_ = -1;
  bool fuse_unk_ = false;
  mutable WordCache cache_;
};

}  // namespace veomni::data
