// SPDX-License-Identifier: Apache-2.0
#include "bpe_model.h"

#include <algorithm>
#include <queue>

#include "byte_alphabet.h"
#include "veomni/base/error.h"

namespace veomni::data {

namespace {
uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
}  // namespace

BpeModel::BpeModel(const io::TokenizerSpec& spec) : id_of_byte_(256, -1), fuse_unk_(spec.fuse_unk) {
  const auto id_of = [&](const std::string& token) {
    const auto found = spec.vocab.find(token);
    VEOMNI_CHECK(found != spec.vocab.end(), "merge needs '", token,
                 "', which is not in the vocabulary");
    return found->second;
  };
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = spec.vocab.find(byte_characters()[byte]);
    if (found != spec.vocab.end()) id_of_byte_[byte] = found->second;
    VEOMNI_CHECK(found != spec.vocab.end() || !spec.byte_fallback, "byte ", byte,
                 " is not in the vocabulary of a byte-level tokenizer with byte_fallback");
  }
  if (!spec.unk_token.empty()) unk_id_ = id_of(spec.unk_token);
  merges_.reserve(spec.merges.size());
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto& [left, right] = spec.merges[rank];
    merges_.insert_or_assign(pair_key(id_of(left), id_of(right)),
                             Merge{static_cast<int32_t>(rank), id_of(left + right)});
  }
  if (spec.ignore_merges) {
    for (const auto& [token, id] : spec.vocab) {
      if (auto bytes = bytes_of_token(token)) whole_words_.emplace(std::move(*bytes), id);
    }
  }
}

const BpeModel::Merge* BpeModel::find_merge(int32_t left, int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

std::vector<BpeModel::Symbol> BpeModel::byte_symbols(std::string_view word) const {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  bool in_unknown = false;
  for (const unsigned char byte : word) {
    const bool unknown = id_of_byte_[byte] < 0;
    const int32_t id = unknown ? unk_id_ : id_of_byte_[byte];
    const bool fused = unknown && in_unknown && fuse_unk_;
    in_unknown = unknown;
    if (id < 0 || fused) continue;
    const int at = static_cast<int>(symbols.size());
    symbols.push_back({id, at - 1, at + 1, true});
  }
  if (!symbols.empty()) symbols.back().next = -1;
  return symbols;
}

// A possible merge of the symbol at `at` with its right neighbour; stale once either has changed.
struct BpeModel::Candidate {
  int32_t rank;
  int at;
  int32_t id;
  bool operator<(const Candidate& other) const {  // the queue's top is its greatest
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

std::vector<int32_t> BpeModel::merge_word(std::string_view word) const {
  std::vector<Symbol> symbols = byte_symbols(word);
  std::priority_queue<Candidate> queue;
  const auto propose = [&](int at) {
    if (at < 0 || symbols[at].next < 0) return;
    if (const Merge* merge = find_merge(symbols[at].id, symbols[symbols[at].next].id)) {
      queue.push({merge->rank, at, merge->id});
    }
  };
  for (int at = 0; at < static_cast<int>(symbols.size()); ++at) propose(at);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.at];
    if (!left.alive || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    const Merge* merge = find_merge(left.id, right.id);
    if (!merge || merge->id != top.id) continue;
    left.id = top.id;
    left.next = right.next;
    right.alive = false;
    if (right.next >= 0) symbols[right.next].prev = top.at;
    propose(left.prev);
    propose(top.at);
  }
  std::vector<int32_t> ids;
  for (const Symbol& symbol : symbols) {
    if (symbol.alive) ids.push_back(symbol.id);
  }
  return ids;
}

void BpeModel::encode_word(std::string_view word, std::vector<int32_t>& ids) const {
  if (cache_.append_to(word, ids)) return;
  if (const auto whole = whole_words_.find(word); whole != whole_words_.end()) {
    ids.push_back(whole->second);
    return;
  }
  const std::vector<int32_t> made = merge_word(word);
  cache_.insert(word, made);
  ids.insert(ids.end(), made.begin(), made.end());
}

}  // namespace veomni::data
