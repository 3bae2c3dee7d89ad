// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "byte_alphabet.h"
#include "scratch.h"
#include "veomni/base/error.h"

namespace veomni::data {

namespace {
using testing::ElementsAre;

// Bytes and the given merges; ids of merges follow from 256.
io::TokenizerSpec spec_with(std::vector<std::pair<std::string, std::string>> merges) {
  io::TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.vocab.emplace(byte_characters()[byte], byte);
  int32_t id = 256;
  for (const auto& [left, right] : merges) spec.vocab.emplace(left + right, id++);
  spec.merges = std::move(merges);
  spec.pre_tokenizers = {{.kind = io::PreTokenizerStep::Kind::kByteLevel, .use_regex = true}};
  spec.byte_level_decoder = true;
  return spec;
}

io::AddedToken added(int32_t id, const std::string& content) {
  return {.id = id, .content = content, .special = true};
}
}  // namespace

TEST(Tokenizer, MergesByRankThenLeftmost) {
  const Tokenizer tokenizer(spec_with({{"b", "c"}, {"a", "b"}, {"ab", "c"}, {"a", "a"}}));
  EXPECT_THAT(tokenizer.encode("abc"), ElementsAre('a', 256));  // bc has the lower rank
  EXPECT_THAT(tokenizer.encode("ab"), ElementsAre(257));
  EXPECT_THAT(tokenizer.encode("aaa"), ElementsAre(259, 'a'));
  EXPECT_THAT(tokenizer.encode(""), ElementsAre());
}

TEST(Tokenizer, IgnoreMergesTakesWholeWords) {
  io::TokenizerSpec spec = spec_with({{"a", "b"}});
  spec.vocab.emplace("abc", 300);
  EXPECT_THAT(Tokenizer(spec).encode("abc"), ElementsAre(256, 'c'));
  spec.ignore_merges = true;
  EXPECT_THAT(Tokenizer(spec).encode("abc"), ElementsAre(300));
}

TEST(Tokenizer, AddedTokensLongestFirstAndTheirFlags) {
  io::TokenizerSpec spec = spec_with({});
  spec.added_tokens = {added(300, "<a>"), added(301, "<a><b>"), added(302, "[m]"),
                       added(303, "word")};
  spec.added_tokens[2].lstrip = spec.added_tokens[2].rstrip = true;
  spec.added_tokens[3].single_word = true;
  const Tokenizer tokenizer(spec);
  EXPECT_THAT(tokenizer.encode("x<a><b><a>y"), ElementsAre('x', 301, 300, 'y'));
  EXPECT_THAT(tokenizer.encode("x \t[m]\n y"), ElementsAre('x', 302, 'y'));
  EXPECT_THAT(tokenizer.encode("a word,"), ElementsAre('a', ' ', 303, ','));
  EXPECT_EQ(tokenizer.encode("awords").size(), 6u);
  EXPECT_EQ(tokenizer.encode("\u00e9word").size(), 6u);  // a letter before it, two bytes
}

TEST(Tokenizer, NormalizedAddedTokensMatchNormalizedText) {
  io::TokenizerSpec spec = spec_with({});
  spec.normalizers = {io::NormalizerKind::kNfc};
  spec.added_tokens = {added(300, "\u00e9"), added(301, "e\u0301")};
  spec.added_tokens[0].normalized = true;
  const Tokenizer tokenizer(spec);
  EXPECT_THAT(tokenizer.encode("\u00e9"), ElementsAre(300));
  EXPECT_THAT(tokenizer.encode("e\u0301"),
              ElementsAre(301));  // matched in the raw text, before NFC
}

TEST(Tokenizer, PrefixSpaceAndEnds) {
  io::TokenizerSpec spec = spec_with({});
  spec.pre_tokenizers[0].add_prefix_space = true;
  const Encoding encoding = Tokenizer(spec).encode_with_ends("ab");
  EXPECT_THAT(encoding.ids, ElementsAre(' ', 'a', 'b'));
  EXPECT_THAT(encoding.ends, ElementsAre(0, 1, 2));
  EXPECT_THAT(Tokenizer(spec).encode(" ab"), ElementsAre(' ', 'a', 'b'));
}

TEST(Tokenizer, EndsCoverTheWholeText) {
  const std::string text = "the cat <|im_start|>\u00e9 sat\n\non";
  const Encoding encoding = small_tokenizer().encode_with_ends(text);
  EXPECT_EQ(encoding.ends.back(), static_cast<int64_t>(text.size()));
  EXPECT_TRUE(std::is_sorted(encoding.ends.begin(), encoding.ends.end()));
}

TEST(Tokenizer, UnknownBytes) {
  io::TokenizerSpec spec = spec_with({});
  spec.vocab.erase("a");
  EXPECT_THAT(Tokenizer(spec).encode("xaay"), ElementsAre('x', 'y'));  // dropped without unk_token
  spec.vocab.emplace("<unk>", 300);
  spec.unk_token = "<unk>";
  EXPECT_THAT(Tokenizer(spec).encode("xaay"), ElementsAre('x', 300, 300, 'y'));
  spec.fuse_unk = true;
  EXPECT_THAT(Tokenizer(spec).encode("xaay"), ElementsAre('x', 300, 'y'));
  spec.byte_fallback = true;
  EXPECT_THROW(Tokenizer{spec}, Error);
}

TEST(Tokenizer, DecodeRoundTripsAnyValidText) {
  const Tokenizer& tokenizer = small_tokenizer();
  for (const std::string& text : {std::string("the cat\r\n\tsat"), std::string("a\0b", 3),
                                  std::string("\u4e2d\u6587 \U0001F469\u200D\U0001F680"),
                                  std::string(10000, 'x'), std::string(5000, ' ')}) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(Tokenizer, InvalidUtf8BecomesReplacementCharacters) {
  const Tokenizer& tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\xFF\xC3"
                                              "b")),
            "a\uFFFD\uFFFD"
            "b");
}

TEST(Tokenizer, DecodeSkipsSpecialAndUnknownIds) {
  const Tokenizer& tokenizer = small_tokenizer();
  std::vector<int32_t> ids = tokenizer.encode("cat<|im_end|>");
  EXPECT_EQ(tokenizer.decode(ids), "cat");
  EXPECT_EQ(tokenizer.decode(ids, false), "cat<|im_end|>");
  ids.push_back(static_cast<int32_t>(tokenizer.vocab_size()));
  ids.push_back(-1);
  EXPECT_EQ(tokenizer.decode(ids), "cat");
  const std::vector<int32_t> half = {tokenizer.encode("\u00e9")[0]};
  EXPECT_EQ(tokenizer.decode(half), "\uFFFD");
}

TEST(Tokenizer, TokensAndIds) {
  const Tokenizer& tokenizer = small_tokenizer();
  const int32_t id = tokenizer.token_to_id("\u0120the").value();
  EXPECT_EQ(tokenizer.id_to_token(id), "\u0120the");
  EXPECT_EQ(tokenizer.bytes_of(id), " the");
  EXPECT_EQ(tokenizer.vocab_size(), 300);
  EXPECT_TRUE(tokenizer.is_special(299));
  EXPECT_FALSE(tokenizer.is_special(id));
  EXPECT_FALSE(tokenizer.token_to_id("nothing like it"));
  EXPECT_FALSE(tokenizer.id_to_token(300));
  EXPECT_EQ(tokenizer.special().eos, tokenizer.token_to_id("<|endoftext|>"));
}

TEST(Tokenizer, TemplateTokensOnRequest) {
  io::TokenizerSpec spec = spec_with({});
  spec.added_tokens = {added(300, "<s>")};
  spec.template_prefix = {{"<s>", {300}}};
  spec.template_suffix = {{"<s>", {300}}};
  EXPECT_THAT(Tokenizer(spec).encode("a", true), ElementsAre(300, 'a', 300));
  EXPECT_THAT(Tokenizer(spec).encode("a"), ElementsAre('a'));
}

TEST(Tokenizer, RefusesWhatIsNotByteLevel) {
  io::TokenizerSpec spec = spec_with({});
  spec.pre_tokenizers.push_back({.kind = io::PreTokenizerStep::Kind::kDigits});
  EXPECT_THROW(Tokenizer{spec}, Error);
  spec.pre_tokenizers.clear();
  EXPECT_THROW(Tokenizer{spec}, Error);
  spec.pre_tokenizers = {{.kind = io::PreTokenizerStep::Kind::kSplit, .pattern = "(("},
                         {.kind = io::PreTokenizerStep::Kind::kByteLevel}};
  EXPECT_THROW(Tokenizer{spec}, Error);
}

TEST(Tokenizer, DigitsAndSplitSteps) {
  using Kind = io::PreTokenizerStep::Kind;
  io::TokenizerSpec spec = spec_with({{"1", "2"}, {"x", "y"}});
  spec.pre_tokenizers = {{.kind = Kind::kDigits, .individual_digits = true},
                         {.kind = Kind::kByteLevel}};
  EXPECT_THAT(Tokenizer(spec).encode("xy12"), ElementsAre(257, '1', '2'));
  spec.pre_tokenizers[0].individual_digits = false;
  EXPECT_THAT(Tokenizer(spec).encode("xy12"), ElementsAre(257, 256));
  spec.pre_tokenizers[0] = {
      .kind = Kind::kSplit, .pattern = "-", .behavior = io::PreTokenizerStep::Behavior::kRemoved};
  EXPECT_THAT(Tokenizer(spec).encode("-x-y-"), ElementsAre('x', 'y'));
  spec.pre_tokenizers[0].invert = true;
  EXPECT_THAT(Tokenizer(spec).encode("-x-y-"), ElementsAre('-', '-', '-'));
}

TEST(Tokenizer, SpecialIdsFromTheFilesBesideIt) {
  const ScratchDir dir;
  dir.write("tokenizer.json", io::write_tokenizer_json(small_tokenizer().spec()));
  dir.write("tokenizer_config.json", R"({"eos_token": {"content": "<|im_end|>"}, "bos_token": null,
                                         "pad_token": "<|endoftext|>"})");
  dir.write("generation_config.json", R"({"eos_token_id": [293, 291], "bos_token_id": 292})");
  const Tokenizer tokenizer = Tokenizer::from_file(dir.path());
  EXPECT_EQ(tokenizer.special().eos, 293);
  EXPECT_EQ(tokenizer.special().bos, 292);
  EXPECT_EQ(tokenizer.special().pad, 291);
  EXPECT_THAT(tokenizer.special().stop, ElementsAre(293, 291));
  dir.write("tokenizer_config.json", R"({"eos_token": "<|nothing|>"})");
  EXPECT_THROW(Tokenizer::from_file(dir.path()), Error);
  dir.write("tokenizer_config.json", "{");
  EXPECT_THROW(Tokenizer::from_file(dir.path()), Error);
  EXPECT_THROW(Tokenizer::from_file(dir.path() + "/absent.json"), ConfigError);
}

TEST(Tokenizer, ManyThreadsShareOne) {
  const Tokenizer& tokenizer = small_tokenizer();
  std::vector<std::string> texts;
  for (int i = 0; i < 2000; ++i)
    texts.push_back("the cat " + std::to_string(i * 7919) + " sat on mat" + std::to_string(i));
  std::vector<std::vector<int32_t>> expected;
  const Tokenizer fresh(tokenizer.spec());
  for (const std::string& text : texts) expected.push_back(fresh.encode(text));
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < texts.size(); ++i)
        wrong[t] += tokenizer.encode(texts[i]) != expected[i];
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

}  // namespace veomni::data
