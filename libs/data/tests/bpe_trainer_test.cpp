// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/bpe_trainer.h"

#include <gtest/gtest.h>

#include <map>

#include "byte_alphabet.h"
#include "scratch.h"
#include "veomni/base/error.h"
#include "veomni/base/rng.h"

namespace veomni::data {

namespace {
// What train_bpe computes, the slow way: all pairs counted again for every merge.
std::vector<std::pair<std::string, std::string>> slow_merges(const std::vector<std::string>& words,
                                                             int count) {
  const Tokenizer bytes_only(train_bpe(texts_of({}), {.vocab_size = 256, .special_tokens = {}}));
  std::vector<std::string> tokens;
  for (int32_t id = 0; id < 256; ++id) tokens.push_back(*bytes_only.id_to_token(id));
  std::vector<std::vector<int>> split;
  for (const std::string& word : words) {
    const auto ids = bytes_only.encode(word);
    split.emplace_back(ids.begin(), ids.end());
  }
  std::vector<std::pair<std::string, std::string>> merges;
  while (static_cast<int>(merges.size()) < count) {
    std::map<std::pair<int, int>, int> pairs;
    for (const auto& word : split) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++pairs[{word[i], word[i + 1]}];
    }
    auto best = pairs.begin();
    for (auto it = pairs.begin(); it != pairs.end(); ++it) {
      if (it->second > best->second) best = it;
    }
    const auto [left, right] = best->first;
    merges.emplace_back(tokens[left], tokens[right]);
    tokens.push_back(tokens[left] + tokens[right]);
    for (auto& word : split) {
      std::vector<int> merged;
      for (size_t i = 0; i < word.size(); ++i) {
        const bool hit = i + 1 < word.size() && word[i] == left && word[i + 1] == right;
        merged.push_back(hit ? static_cast<int>(tokens.size()) - 1 : word[i]);
        i += hit;
      }
      word = merged;
    }
  }
  return merges;
}

std::vector<std::string> random_words(int count) {
  KeyedRng rng(7, "words");
  std::vector<std::string> words;
  for (int i = 0; i < count; ++i) {
    std::string word;
    for (uint64_t left = 1 + rng.below(9); left > 0; --left)
      word += static_cast<char>('a' + rng.below(4));
    words.push_back(word);
  }
  return words;
}
}  // namespace

TEST(BpeTrainer, EqualsCountingAllPairsAnew) {
  const auto words = random_words(400);
  const io::TokenizerSpec spec =
      train_bpe(texts_of(words), {.vocab_size = 256 + 40, .special_tokens = {}});
  EXPECT_EQ(spec.merges, slow_merges(words, 40));
}

TEST(BpeTrainer, IsDeterministicAndIndependentOfTextOrder) {
  auto words = random_words(400);
  const io::TokenizerSpec once = train_bpe(texts_of(words), {.vocab_size = 400});
  EXPECT_EQ(train_bpe(texts_of(words), {.vocab_size = 400}), once);
  std::reverse(words.begin(), words.end());
  EXPECT_EQ(train_bpe(texts_of(words), {.vocab_size = 400}), once);
}

TEST(BpeTrainer, SizesAndSpecialTokens) {
  const io::TokenizerSpec spec = train_bpe(texts_of(random_words(400)), {.vocab_size = 300});
  EXPECT_EQ(spec.vocab_size(), 300);
  ASSERT_EQ(spec.added_tokens.size(), 9u);
  EXPECT_EQ(spec.added_tokens[2].content, "<|im_end|>");
  EXPECT_EQ(spec.added_tokens[2].id, 293);
  EXPECT_EQ(spec.added_tokens[4].content, "<|image_pad|>");
  EXPECT_EQ(spec.added_tokens[8].content, "<|audio_eos|>");
  EXPECT_EQ(spec.added_tokens[8].id, 299);
  for (int byte = 0; byte < 256; ++byte) EXPECT_EQ(spec.vocab.count(byte_characters()[byte]), 1u);
  EXPECT_EQ(spec.vocab.at("!"), 0);
}

TEST(BpeTrainer, SpecialTokensInTheTextsTeachNothing) {
  std::vector<std::string> texts(100, "<|im_start|>");
  EXPECT_TRUE(train_bpe(texts_of(texts), {.vocab_size = 300}).merges.empty());
}

TEST(BpeTrainer, StopsAtMinFrequency) {
  const io::TokenizerSpec spec =
      train_bpe(texts_of({"ab ab", "cd"}), {.vocab_size = 1000, .special_tokens = {}});
  ASSERT_EQ(spec.merges.size(), 1u);  // "ab" twice, "Ġab" and "cd" once
  EXPECT_EQ(spec.merges[0], (std::pair<std::string, std::string>{"a", "b"}));
  EXPECT_EQ(train_bpe(texts_of({}), {.vocab_size = 1000}).vocab_size(), 256 + 9);
}

TEST(BpeTrainer, SurvivesInvalidUtf8) {
  EXPECT_GE(train_bpe(texts_of({"\xFF\xFE\xFF", std::string("\0\0\0\0", 4)}), {.vocab_size = 300})
                .vocab_size(),
            259);
}

TEST(BpeTrainer, WritesAFileThatReadsBackEqual) {
  const ScratchDir dir;
  for (const char* style : {"qwen2", "gpt2"}) {
    const io::TokenizerSpec spec =
        train_bpe(texts_of(random_words(400)), {.vocab_size = 300, .style = style});
    const std::string file = dir.write("tokenizer.json", io::write_tokenizer_json(spec));
    EXPECT_EQ(Tokenizer::from_file(file).spec(), spec);
  }
}

TEST(BpeTrainer, RefusesWrongOptions) {
  EXPECT_THROW(train_bpe(texts_of({}), {.vocab_size = 258}), ConfigError);
  EXPECT_THROW(train_bpe(texts_of({}), {.style = "gpt3"}), ConfigError);
  EXPECT_THROW(train_bpe(texts_of({}), {.special_tokens = {""}}), ConfigError);
  EXPECT_THROW(train_bpe(texts_of({}), {.special_tokens = {"<a>", "<a>"}}), ConfigError);
}

}  // namespace veomni::data
