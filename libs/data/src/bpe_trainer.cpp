// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/bpe_trainer.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <queue>
#include <string_view>
#include <unordered_map>

#include "added_tokens.h"
#include "byte_alphabet.h"
#include "normalizer.h"
#include "pre_tokenizer.h"
#include "utf8.h"
#include "veomni/base/error.h"
#include "veomni/data/data_options.h"
#include "word_cache.h"

namespace veomni::data {

const char* const kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<std::string> default_special_tokens() {
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  const MediaOptions media;
  for (const MediaTokens* of : {&media.image, &media.audio}) {
    for (const std::string& token : {of->begin, of->pad, of->end}) tokens.push_back(token);
  }
  return tokens;
}

namespace {
// Everything but vocabulary and merges.
io::TokenizerSpec empty_spec(const BpeTrainerOptions& options) {
  using Step = io::PreTokenizerStep;
  io::TokenizerSpec spec;
  spec.byte_level_decoder = true;
  if (options.style == "gpt2") {
    spec.pre_tokenizers = {Step{.kind = Step::Kind::kByteLevel, .use_regex = true}};
  } else {
    VEOMNI_CHECK_CONFIG(options.style == "qwen2", "tokenizer style '", options.style,
                        "' is neither qwen2 nor gpt2");
    spec.normalizers = {io::NormalizerKind::kNfc};
    spec.pre_tokenizers = {Step{.kind = Step::Kind::kSplit, .pattern = kQwen2Pattern},
                           Step{.kind = Step::Kind::kByteLevel, .use_regex = false}};
  }
  return spec;
}

std::vector<io::AddedToken> special_tokens(const std::vector<std::string>& contents,
                                           int32_t first_id) {
  std::vector<io::AddedToken> tokens;
  for (const std::string& content : contents) {
    VEOMNI_CHECK_CONFIG(!content.empty(),
                        "a special token of the tokenizer to be trained is empty");
    for (const io::AddedToken& before : tokens) {
      VEOMNI_CHECK_CONFIG(before.content != content, "special token '", content,
                          "' is listed twice");
    }
    tokens.push_back({.id = first_id + static_cast<int32_t>(tokens.size()),
                      .content = content,
                      .special = true});
  }
  return tokens;
}

using WordCounts = std::unordered_map<std::string, int64_t, StringHash, std::equal_to<>>;

WordCounts count_words(const TextIterator& next_text, const io::TokenizerSpec& spec) {
  const AddedTokenMatcher specials(spec.added_tokens);
  const PreTokenizer pre_tokenizer(spec.pre_tokenizers);
  WordCounts counts;
  const auto count = [&](std::string_view word, bool) {
    if (const auto found = counts.find(word); found != counts.end()) {
      ++found->second;
    } else {
      counts.emplace(word, 1);
    }
  };
  while (const auto text = next_text()) {
    const auto words_of = [&](std::string_view piece) {
      pre_tokenizer.for_each_word(normalize(piece, spec.normalizers), count);
    };
    specials.split(to_valid_utf8(*text), words_of, [](int32_t, std::string_view) {});
  }
  return counts;
}

// Learns merges over distinct words; pair counts follow each merge, nothing is counted again.
class MergeLearner {
 public:
  explicit MergeLearner(const WordCounts& counts) {
    add_alphabet();
    // By content, so that the order of a hash map never shows.
    const std::map<std::string_view, int64_t> sorted(counts.begin(), counts.end());
    for (const auto& [bytes, count] : sorted) add_word(bytes, count);
    for (const auto& [pair, count] : pair_count_) queue_.push({count, pair});
  }

  void learn(int64_t vocab_size, int64_t min_frequency) {
    while (static_cast<int64_t>(tokens_.size()) < vocab_size && !queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const int64_t count = pair_count_[top.pair];
      if (count != top.count) {  // changed since it was queued
        if (count >= min_frequency) queue_.push({count, top.pair});
        continue;
      }
      if (count < min_frequency) return;
      apply(top.pair);
    }
  }

  void move_into(io::TokenizerSpec& spec) {
    for (size_t id = 0; id < tokens_.size(); ++id)
      spec.vocab.emplace(tokens_[id], static_cast<int32_t>(id));
    spec.merges = std::move(merges_);
  }

 private:
  using Pair = std::pair<int32_t, int32_t>;
  struct PairHash {
    size_t operator()(const Pair& pair) const {
      return static_cast<uint64_t>(pair.first) * 0x9E3779B97F4A7C15ULL ^
             static_cast<uint64_t>(pair.second);
    }
  };
  struct Candidate {
    int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {  // the queue's top is its greatest
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  struct Word {
    std::vector<int32_t> ids;
    int64_t count;
  };

  void add_alphabet() {
    std::vector<int> bytes(256);
    std::iota(bytes.begin(), bytes.end(), 0);
    std::sort(bytes.begin(), bytes.end(),
              [](int a, int b) { return byte_characters()[a] < byte_characters()[b]; });
    id_of_byte_.resize(256);
    for (const int byte : bytes) id_of_byte_[byte] = add_token(byte_characters()[byte]);
  }

  int32_t add_token(const std::string& token) {
    const auto [entry, is_new] = id_of_token_.emplace(token, static_cast<int32_t>(tokens_.size()));
    if (is_new) tokens_.push_back(token);
    return entry->second;
  }

  void add_word(std::string_view bytes, int64_t count) {
    Word word{{}, count};
    for (const unsigned char byte : bytes) word.ids.push_back(id_of_byte_[byte]);
    const int index = static_cast<int>(words_.size());
    for (size_t i = 0; i + 1 < word.ids.size(); ++i)
      change({word.ids[i], word.ids[i + 1]}, count, index);
    words_.push_back(std::move(word));
  }

  void change(const Pair& pair, int64_t by, int word) {
    pair_count_[pair] += by;
    if (by > 0) {
      std::vector<int>& words = words_of_pair_[pair];
      if (words.empty() || words.back() != word) words.push_back(word);
    }
  }

  void apply(const Pair& pair) {
    const int32_t merged = add_token(tokens_[pair.first] + tokens_[pair.second]);
    merges_.emplace_back(tokens_[pair.first], tokens_[pair.second]);
    const std::vector<int> words = std::move(words_of_pair_[pair]);
    words_of_pair_.erase(pair);
    std::vector<Pair> grown;
    for (const int index : words) merge_in_word(index, pair, merged, grown);
    pair_count_[pair] = 0;
    std::sort(grown.begin(), grown.end());
    grown.erase(std::unique(grown.begin(), grown.end()), grown.end());
    for (const Pair& neighbour : grown) queue_.push({pair_count_[neighbour], neighbour});
  }

  void merge_in_word(int index, const Pair& pair, int32_t merged, std::vector<Pair>& grown) {
    std::vector<int32_t>& ids = words_[index].ids;
    const int64_t count = words_[index].count;
    size_t kept = 0;
    for (size_t i = 0; i < ids.size();) {
      if (i + 1 == ids.size() || ids[i] != pair.first || ids[i + 1] != pair.second) {
        ids[kept++] = ids[i++];
        continue;
      }
      if (kept > 0) {
        change({ids[kept - 1], pair.first}, -count, index);
        change({ids[kept - 1], merged}, count, index);
        grown.push_back({ids[kept - 1], merged});
      }
      if (i + 2 < ids.size()) {
        change({pair.second, ids[i + 2]}, -count, index);
        change({merged, ids[i + 2]}, count, index);
        grown.push_back({merged, ids[i + 2]});
      }
      ids[kept++] = merged;
      i += 2;
    }
    ids.resize(kept);
  }

  std::vector<int32_t> id_of_byte_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, int32_t> id_of_token_;
  std::vector<std::pair<std::string, std::string>> merges_;
  std::vector<Word> words_;
  std::unordered_map<Pair, int64_t, PairHash> pair_count_;
  std::unordered_map<Pair, std::vector<int>, PairHash> words_of_pair_;
  std::priority_queue<Candidate> queue_;
};
}  // namespace

io::TokenizerSpec train_bpe(const TextIterator& next_text, const BpeTrainerOptions& options) {
  const int64_t least = 256 + static_cast<int64_t>(options.special_tokens.size());
  VEOMNI_CHECK_CONFIG(options.vocab_size >= least && options.vocab_size <= INT32_MAX,
                      "vocabulary of ", options.vocab_size, " entries: needs at least ", least,
                      ", one per byte and special token");
  io::TokenizerSpec spec = empty_spec(options);
  spec.added_tokens = special_tokens(options.special_tokens, 0);
  MergeLearner learner(count_words(next_text, spec));
  learner.learn(options.vocab_size - static_cast<int64_t>(options.special_tokens.size()),
                std::max<int64_t>(options.min_frequency, 1));
  learner.move_into(spec);
  spec.added_tokens =
      special_tokens(options.special_tokens, static_cast<int32_t>(spec.vocab.size()));
  return spec;
}

}  // namespace veomni::data
