// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scratch.h"

namespace veomni::data {

namespace {
using testing::ElementsAre;
using testing::HasSubstr;

std::string bad_reason(const Source& source, int64_t index) {
  try {
    source.read(index);
  } catch (const BadRecord& bad) {
    return bad.what();
  }
  return "(it was read)";
}

std::vector<std::string> texts_in(const Source& source) {
  std::vector<std::string> texts;
  for (int64_t i = 0; i < source.size(); ++i) texts.push_back(source.read(i).text);
  return texts;
}
}  // namespace

TEST(JsonlSource, ReadsMessagesAndTexts) {
  const ScratchDir dir;
  const auto source =
      open_file_source({.path = dir.write("a.jsonl",
                                          "{\"messages\": [{\"role\": \"user\", \"content\": "
                                          "\"hi\"}, {\"role\": \"assistant\", \"content\": "
                                          "[{\"type\": \"text\", \"text\": \"a\"}, {\"type\": "
                                          "\"text\", \"text\": \"b\"}]}], \"extra\": 1}\r\n"
                                          "\n  \n{\"text\": \"caf\\u00e9\"}")});
  ASSERT_EQ(source->size(), 2);
  EXPECT_THAT(source->read(0).messages,
              ElementsAre(Message{"user", "hi"}, Message{"assistant", "ab"}));
  EXPECT_EQ(source->read(1).text, "caf\u00e9");
  EXPECT_EQ(source->where(1), dir.path() + "/a.jsonl:4");
}

TEST(JsonlSource, NamesFileLineAndReasonOfBadRecords) {
  const ScratchDir dir;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"not json", "not JSON: "},
      {"[1]", "not an object but array"},
      {"{\"txt\": \"a\"}", "has neither \"messages\" nor \"text\""},
      {"{\"text\": 3}", "\"text\" is not a string but number"},
      {"{\"text\": null}", "\"text\" is not a string but null"},
      {"{\"messages\": {}}", "\"messages\" is not a list but object"},
      {"{\"messages\": []}", "\"messages\" is empty"},
      {"{\"messages\": [\"a\"]}", "messages[0] is not an object but string"},
      {"{\"messages\": [{\"content\": \"a\"}]}", "messages[0] has no \"role\""},
      {"{\"messages\": [{\"role\": 1, \"content\": \"a\"}]}", "messages[0].role is not a string"},
      {"{\"messages\": [{\"role\": \"\", \"content\": \"a\"}]}", "messages[0].role is empty"},
      {"{\"messages\": [{\"role\": \"user\"}]}", "messages[0] has no \"content\""},
      {"{\"messages\": [{\"role\": \"user\", \"content\": null}]}",
       "messages[0].content is neither"},
      {"{\"messages\": [{\"role\": \"user\", \"content\": [3]}]}",
       "messages[0].content[0] is no object with a \"type\""},
      {"{\"text\": \"\xFF\"}", "not JSON: "},
      {"{\"text\": \"\\ud800\"}", "not JSON: "},
      {std::string("{\"text\": \"a\0\"}", 13), "not JSON: "},
      {std::string(100000, '['), "nested deeper than"},
      {"{\"text\": \"a", "not JSON: "},
  };
  std::string file;
  for (const auto& [line, reason] : cases) file += line + "\n";
  const auto source = open_file_source({.path = dir.write("bad.jsonl", file)});
  ASSERT_EQ(source->size(), static_cast<int64_t>(cases.size()));
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_THAT(bad_reason(*source, i),
                HasSubstr(dir.path() + "/bad.jsonl:" + std::to_string(i + 1) + ": "))
        << i;
    EXPECT_THAT(bad_reason(*source, i), HasSubstr(cases[i].second)) << i;
  }
}

TEST(JsonlSource, HugeLinesAreBadNotFatal) {
  const ScratchDir dir;
  const std::string huge(3 << 20, 'x');
  const auto source = open_file_source(
      {.path = dir.write("a.jsonl", "{\"text\": \"" + huge + "\"}\n{\"text\": \"b\"}\n"),
       .max_record_bytes = 1 << 20});
  EXPECT_THAT(bad_reason(*source, 0), HasSubstr("longer than max_record_bytes"));
  EXPECT_EQ(source->read(1).text, "b");
}

TEST(TextSource, LinesAndParagraphs) {
  const ScratchDir dir;
  const std::string file = dir.write("a.txt", "\n one\ntwo \r\n\n \nthree\n\tfour\n\n\n\nfive");
  EXPECT_THAT(texts_in(*open_file_source({.path = file})),
              ElementsAre(" one", "two ", "three", "\tfour", "five"));
  const auto paragraphs = open_file_source({.path = file, .format = "text_paragraphs"});
  EXPECT_THAT(texts_in(*paragraphs), ElementsAre(" one\ntwo ", "three\n\tfour", "five"));
  EXPECT_EQ(paragraphs->where(1), file + ":6");
  EXPECT_EQ(paragraphs->where(2), file + ":11");
}

TEST(TextSource, NulIsTextAndBrokenUtf8IsBad) {
  const ScratchDir dir;
  const auto source =
      open_file_source({.path = dir.write("a.txt", std::string("a\0b\n\xC3\nc\n", 8))});
  EXPECT_EQ(source->read(0).text, std::string("a\0b", 3));
  EXPECT_THAT(bad_reason(*source, 1), HasSubstr("a.txt:2: not UTF-8 at byte 0"));
  EXPECT_EQ(source->read(2).text, "c");
}

// Lines longer than the index's read buffer, and line breaks at its edges.
TEST(TextSource, LinesAcrossReadBuffers) {
  const ScratchDir dir;
  const std::vector<std::string> lines = {std::string((1 << 20) - 1, 'a'),
                                          std::string(1 << 20, 'b'), "c",
                                          std::string((2 << 20) + 3, 'd')};
  std::string file;
  for (const std::string& line : lines) file += line + "\n";
  EXPECT_EQ(texts_in(*open_file_source({.path = dir.write("a.txt", file)})), lines);
}

TEST(FileSource, DirectoriesAndGlobsAreSorted) {
  const ScratchDir dir;
  dir.write("b.txt", "b1\nb2\n");
  dir.write("a.txt", "a1\n");
  dir.write("c.txt", "\n");
  dir.write("d.jsonl", "{\"text\": \"d1\"}\n");
  dir.write("e.md", "no\n");
  const auto all = open_file_source({.path = dir.path()});
  EXPECT_THAT(texts_in(*all), ElementsAre("a1", "b1", "b2", "d1"));
  EXPECT_EQ(all->where(2), dir.path() + "/b.txt:2");
  EXPECT_THAT(texts_in(*open_file_source({.path = dir.path() + "/[bd].*"})),
              ElementsAre("b1", "b2", "d1"));
  EXPECT_THROW(all->read(4), Error);
}

TEST(FileSource, RefusesWhatIsNotThere) {
  const ScratchDir dir;
  dir.write("empty.txt", "\n\n");
  dir.write("sub/x.md", "x");
  EXPECT_THROW(open_file_source({.path = dir.path() + "/absent.jsonl"}), ConfigError);
  EXPECT_THROW(open_file_source({.path = dir.path() + "/*.parquet"}), ConfigError);
  EXPECT_THROW(open_file_source({.path = dir.path() + "/empty.txt"}), ConfigError);
  EXPECT_THROW(open_file_source({.path = dir.path() + "/sub"}), ConfigError);
  EXPECT_THROW(open_file_source({.path = ""}), ConfigError);
  EXPECT_THROW(open_file_source({.path = dir.path() + "/empty.txt", .format = "csv"}), ConfigError);
}

TEST(FileSource, AFileThatShrinksIsAnError) {
  const ScratchDir dir;
  const std::string file = dir.write("a.txt", "one\ntwo\n");
  const auto source = open_file_source({.path = file});
  std::filesystem::resize_file(file, 5);
  EXPECT_EQ(source->read(0).text, "one");
  EXPECT_THROW(source->read(1), Error);
  std::filesystem::remove(file);
  EXPECT_THROW(source->read(0), Error);
}

}  // namespace veomni::data
