// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/tokenizer_json.h"
#include "test_files.h"
#include "veomni/io/json_fields.h"

namespace veomni::io {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// A small tokenizer as `tokenizers` writes it.
json small() {
  return json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 4, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": true, "normalized": false, "special": true},
      {"id": 2, "content": "ab", "single_word": true, "lstrip": true, "rstrip": false, "normalized": true, "special": false},
      {"id": 5, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "Isolated", "invert": false},
      {"type": "Digits", "individual_digits": true},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
    "post_processor": {"type": "Sequence", "processors": [
      {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                  {"SpecialToken": {"id": "</s>", "type_id": 0}}],
       "pair": [],
       "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]},
                          "</s>": {"id": "</s>", "ids": [5], "tokens": ["</s>"]}}}]},
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
              "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
              "vocab": {"a": 0, "b": 1, "ab": 2, "abb": 3}, "merges": ["a b", ["ab", "b"]]}})");
}

TokenizerSpec parse(const json& file) {
  return parse_tokenizer_json(file.dump(), "tokenizer.json");
}

TEST(TokenizerJson, EveryPartIsTaken) {
  const TokenizerSpec spec = parse(small());
  EXPECT_EQ(spec.vocab.at("abb"), 3);
  EXPECT_THAT(spec.merges, ElementsAre(std::pair("a", "b"), std::pair("ab", "b")));
  EXPECT_EQ(spec.added_tokens[0],
            (AddedToken{.id = 4, .content = "<s>", .special = true, .rstrip = true}));
  EXPECT_EQ(
      spec.added_tokens[1],
      (AddedToken{
          .id = 2, .content = "ab", .lstrip = true, .single_word = true, .normalized = true}));
  EXPECT_THAT(spec.normalizers, ElementsAre(NormalizerKind::kNfc));
  using Step = PreTokenizerStep;
  EXPECT_THAT(spec.pre_tokenizers,
              ElementsAre(Step{.kind = Step::Kind::kSplit, .pattern = "\\p{N}"},
                          Step{.kind = Step::Kind::kDigits, .individual_digits = true},
                          Step{.kind = Step::Kind::kByteLevel, .use_regex = false}));
  EXPECT_TRUE(spec.byte_level_decoder);
  EXPECT_THAT(spec.template_prefix, ElementsAre(TemplateToken{"<s>", {4}}));
  EXPECT_THAT(spec.template_suffix, ElementsAre(TemplateToken{"</s>", {5}}));
  EXPECT_TRUE(spec.ignore_merges);
  EXPECT_EQ(spec.vocab_size(), 6);
}

TEST(TokenizerJson, AbsentPartsAreTheIdentity) {
  const TokenizerSpec spec = parse(json::parse(R"({"model":{"vocab":{"a":0},"merges":[]}})"));
  EXPECT_THAT(spec.normalizers, IsEmpty());
  EXPECT_THAT(spec.pre_tokenizers, IsEmpty());
  EXPECT_FALSE(spec.byte_level_decoder);
  EXPECT_EQ(spec.vocab_size(), 1);
}

TEST(TokenizerJson, WhatIsWrittenParsesToTheSame) {
  const TokenizerSpec spec = parse(small());
  EXPECT_EQ(parse_tokenizer_json(write_tokenizer_json(spec), "again"), spec);
  TokenizerSpec bare;
  bare.vocab = {{"\xc4\xa0", 0}};
  EXPECT_EQ(parse_tokenizer_json(write_tokenizer_json(bare), "again"), bare);
}

TEST(TokenizerJson, ASpecThatBreaksItsPromisesIsNotWritten) {
  TokenizerSpec spec = parse(small());
  spec.merges.emplace_back("b", "c");
  EXPECT_THAT(message_of([&] { write_tokenizer_json(spec); }),
              HasSubstr("the tokenizer to write: model.merges[2]"));
  TokenizerSpec binary;
  binary.vocab = {{"\xff", 0}};
  EXPECT_THAT(message_of([&] { write_tokenizer_json(binary); }), HasSubstr("not UTF-8"));
}

struct Edit {
  const char* name;
  const char* pointer;  // JSON pointer of the value replaced
  const char* value;    // its new JSON; "" removes it
  const char* complaint;
};

class BadTokenizers : public ::testing::TestWithParam<Edit> {};

TEST_P(BadTokenizers, AreRefusedByPathAndValue) {
  const Edit& edit = GetParam();
  const json::json_pointer pointer(edit.pointer);
  json file = small();
  if (*edit.value == '\0') {
    file[pointer.parent_pointer()].erase(pointer.back());
  } else {
    file[pointer] = json::parse(edit.value);
  }
  const std::string message = message_of([&] { parse(file); });
  EXPECT_THAT(message, HasSubstr("tokenizer.json: "));
  EXPECT_THAT(message, HasSubstr(edit.complaint));
}

INSTANTIATE_TEST_SUITE_P(
    TokenizerJson, BadTokenizers,
    ::testing::Values(
        Edit{"Normalizer", "/normalizer/type", "\"Precompiled\"",
             "normalizer.type 'Precompiled' is not supported (supported: NFC, Sequence)"},
        Edit{"NormalizerIsText", "/normalizer", "\"NFC\"",
             "normalizer: needs an object with 'type'"},
        Edit{"PreTokenizer", "/pre_tokenizer/pretokenizers/1/type", "\"Metaspace\"",
             "pre_tokenizer.pretokenizers[1].type 'Metaspace' is not supported"},
        Edit{"PreTokenizerSteps", "/pre_tokenizer/pretokenizers", "3",
             "'pretokenizers' must be a list"},
        Edit{"SplitString", "/pre_tokenizer/pretokenizers/0/pattern", "{\"String\":\" \"}",
             "pretokenizers[0].pattern is not supported"},
        Edit{"SplitBehavior", "/pre_tokenizer/pretokenizers/0/behavior", "\"MergedWithNext\"",
             "behavior 'MergedWithNext' is not supported (supported: Isolated, Removed)"},
        Edit{"Decoder", "/decoder/type", "\"WordPiece\"",
             "decoder.type 'WordPiece' is not supported"},
        Edit{"PostProcessor", "/post_processor/processors/1/type", "\"BertProcessing\"",
             "post_processor.processors[1].type 'BertProcessing' is not supported"},
        Edit{"TemplateWithoutText", "/post_processor/processors/1/single", "[]",
             "must hold the sequence A once"},
        Edit{"TemplateToken", "/post_processor/processors/1/special_tokens/<s>", "",
             "'<s>' is missing"},
        Edit{"TemplateId", "/post_processor/processors/1/special_tokens/<s>/ids", "[77]",
             "has the id 77, which no token has"},
        Edit{"ModelType", "/model/type", "\"Unigram\"",
             "model.type 'Unigram' is not supported (supported: BPE)"},
        Edit{"Dropout", "/model/dropout", "0.1", "model.dropout 0.1 is not supported"},
        Edit{"Prefix", "/model/continuing_subword_prefix", "\"##\"",
             "continuing_subword_prefix '##'"},
        Edit{"UnknownToken", "/model/unk_token", "\"<unk>\"",
             "model.unk_token '<unk>' is in neither"},
        Edit{"NoModel", "/model", "", "'model' is missing"},
        Edit{"NoVocab", "/model/vocab", "", "model: 'vocab' is missing"},
        Edit{"NoMerges", "/model/merges", "", "model: 'merges' is missing"},
        Edit{"MergePart", "/model/merges/1", "[\"ab\",\"c\"]",
             "model.merges[1] ('ab' + 'c') needs the token 'c', which model.vocab lacks"},
        Edit{"MergeResult", "/model/vocab/abb", "", "('ab' + 'b') needs the token 'abb'"},
        Edit{"MergeWithoutSpace", "/model/merges/0", "\"ab\"", "model.merges[0] must be \"a b\""},
        Edit{"MergeOfThree", "/model/merges/0", "\"a b c\"", "is 'a b c'"},
        Edit{"MergeIsANumber", "/model/merges/0", "7", "model.merges[0] must be"},
        Edit{"NegativeId", "/model/vocab/a", "-1", "token 'a' must have an id, has -1"},
        Edit{"HugeId", "/model/vocab/a", "2147483648", "token 'a' must have an id"},
        Edit{"IdTwice", "/model/vocab/a", "1", "gives the id 1 to two tokens"},
        Edit{"AddedTokenRenumbered", "/added_tokens/2/id", "9",
             "has the id 9, its id is 5 by its place"},
        Edit{"AddedTokenOtherId", "/added_tokens/1/id", "6",
             "has the id 6, its id is 2 in model.vocab"},
        Edit{"AddedTokenTwice", "/added_tokens/2/content", "\"<s>\"", "'<s>' is there twice"},
        Edit{"AddedTokenEmpty", "/added_tokens/2/content", "\"\"", "is empty"},
        Edit{"AddedTokenFlag", "/added_tokens/0/special", "1",
             "added_tokens[0]: 'special' must be true or false"},
        Edit{"VocabWithHoles", "/model/vocab/abb", "4",
             "which model.vocab gives to another token"}),
    [](const auto& info) { return info.param.name; });

TEST(TokenizerJson, TextThatIsNotJsonIsPlaced) {
  EXPECT_THAT(message_of([] { parse_tokenizer_json("{\n  \"model\": nope", "t.json"); }),
              HasSubstr("t.json: not valid JSON: parse error at line 2, column 13"));
  EXPECT_THAT(message_of([] { parse_tokenizer_json("", "t.json"); }), HasSubstr("not valid JSON"));
  EXPECT_THAT(message_of([] { parse_tokenizer_json("[]", "t.json"); }),
              HasSubstr("must be an object"));
}

TEST(TokenizerJson, DeepNestingIsRefusedNotRecursed) {
  const size_t depth = 200'000;
  std::string nested;
  for (size_t i = 0; i < depth; ++i) nested += R"({"type":"Sequence","normalizers":[)";
  for (size_t i = 0; i < depth; ++i) nested += "]}";
  EXPECT_THAT(
      message_of([&] { parse_tokenizer_json("{\"normalizer\":" + nested + "}", "t.json"); }),
      HasSubstr("nested more than 8 deep"));
}

TEST(TokenizerJson, MissingFileIsTheUsersMistake) {
  const ScratchDir dir;
  EXPECT_THAT(message_of<ConfigError>([&] { read_tokenizer_json(dir / "tokenizer.json"); }),
              HasSubstr("No such file"));
  put_file(dir / "tokenizer.json", small().dump());
  EXPECT_EQ(read_tokenizer_json(dir / "tokenizer.json"), parse(small()));
}

}  // namespace
}  // namespace veomni::io
