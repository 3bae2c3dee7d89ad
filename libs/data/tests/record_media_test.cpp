// SPDX-License-Identifier: Apache-2.0
// Every form of record with pictures or sound.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "record_parser.h"
#include "scratch.h"
#include "veomni/data/media_location.h"

namespace veomni::data {

namespace {
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<Message> messages_in(const std::string& line) {
  return parse_json_record(line).messages;
}

std::string refusal(const std::string& line) {
  try {
    parse_json_record(line);
  } catch (const BadRecord& bad) {
    return bad.what();
  }
  return "(it was taken)";
}

// A user message with these parts, and the record's other keys.
std::string with_parts(const std::string& parts, const std::string& more = "") {
  return R"({"messages": [{"role": "user", "content": [)" + parts + "]}]" + more + "}";
}

MediaPart only_part(const std::string& part) {
  const auto messages = messages_in(with_parts(part));
  EXPECT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].content, "");
  EXPECT_EQ(messages[0].media.size(), 1u);
  return messages[0].media.empty() ? MediaPart{} : messages[0].media[0];
}
}  // namespace

TEST(RecordMedia, PartsOfContent) {
  EXPECT_EQ(only_part(R"({"type": "image", "image": "a/b.jpg"})"), (MediaPart{"image", "a/b.jpg"}));
  EXPECT_EQ(only_part(R"({"type": "image", "image": {"url": "a.jpg"}})"),
            (MediaPart{"image", "a.jpg"}));
  EXPECT_EQ(only_part(R"({"type": "image", "url": "a.jpg"})"), (MediaPart{"image", "a.jpg"}));
  EXPECT_EQ(only_part(R"({"type": "image", "path": "a.jpg"})"), (MediaPart{"image", "a.jpg"}));
  EXPECT_EQ(only_part(R"({"type": "image", "base64": "AAAA"})"),
            (MediaPart{"image", "data:;base64,AAAA"}));
  EXPECT_EQ(only_part(R"({"type": "image_url", "image_url": {"url": "a.jpg", "detail": "low"}})"),
            (MediaPart{"image", "a.jpg"}));
  EXPECT_EQ(only_part(R"({"type": "image_url", "image_url": "data:image/png;base64,AAAA"})"),
            (MediaPart{"image", "data:image/png;base64,AAAA"}));
  EXPECT_EQ(only_part(R"({"type": "image", "image": "file:///a%20b/c.jpg"})"),
            (MediaPart{"image", "/a b/c.jpg"}));
  EXPECT_EQ(only_part(R"({"type": "image", "image": "file://localhost/c.jpg"})"),
            (MediaPart{"image", "/c.jpg"}));
  EXPECT_EQ(only_part(R"({"type": "audio", "audio": "a.wav"})"), (MediaPart{"audio", "a.wav"}));
  EXPECT_EQ(only_part(R"({"type": "audio_url", "audio_url": {"url": "a.wav"}})"),
            (MediaPart{"audio", "a.wav"}));
  EXPECT_EQ(
      only_part(R"({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})"),
      (MediaPart{"audio", "data:;base64,AAAA"}));
}

TEST(RecordMedia, PartsStandWhereTheyAreWritten) {
  const auto messages = messages_in(with_parts(
      R"({"type": "text", "text": "café "}, {"type": "image", "image": "a.png"}, {"type": "text", "text": "b"},
         {"type": "audio", "audio": "a.wav"}, {"type": "image", "image": "b.png"})"));
  EXPECT_EQ(messages[0].content, "café b");
  EXPECT_THAT(messages[0].media,
              ElementsAre(MediaPart{"image", "a.png", 6}, MediaPart{"audio", "a.wav", 7},
                          MediaPart{"image", "b.png", 7}));
}

TEST(RecordMedia, PlacesAndListsBesideThem) {
  const auto messages = messages_in(
      R"({"images": ["1.png", {"path": "2.png"}], "audio": "s.wav",
          "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"},
                                                    {"type": "image", "image": "own.png"}, {"type": "audio"}]},
                       {"role": "assistant", "content": "x<image>y"}]})");
  EXPECT_THAT(messages[0].media,
              ElementsAre(MediaPart{"image", "1.png"}, MediaPart{"image", "own.png", 1},
                          MediaPart{"audio", "s.wav", 1}));
  EXPECT_EQ(messages[1].content, "xy");
  EXPECT_THAT(messages[1].media, ElementsAre(MediaPart{"image", "2.png", 1}));
}

TEST(RecordMedia, TagsWithoutAListAreText) {
  const auto messages =
      messages_in(R"({"messages": [{"role": "user", "content": "<image> <audio> in HTML"}]})");
  EXPECT_EQ(messages[0], (Message{"user", "<image> <audio> in HTML"}));
  const auto listed = messages_in(
      R"({"images": ["a.png"], "messages": [{"role": "user", "content": "<image><audio><im"}]})");
  EXPECT_EQ(listed[0], (Message{"user", "<audio><im", {{"image", "a.png"}}}));
}

TEST(RecordMedia, LlavasConversations) {
  const auto messages = messages_in(
      R"({"id": "7", "image": "coco/1.jpg",
          "conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "<image>\nWhat?"},
                            {"from": "gpt", "value": "A cat."}]})");
  EXPECT_THAT(messages, ElementsAre(Message{"system", "Be brief."},
                                    Message{"user", "\nWhat?", {{"image", "coco/1.jpg"}}},
                                    Message{"assistant", "A cat."}));
  const auto several = messages_in(
      R"({"image": ["1.jpg", "2.jpg"], "audio": "a.wav",
          "conversations": [{"from": "human", "value": "<image> <audio><image>"}, {"from": "gpt", "value": "a"}]})");
  EXPECT_EQ(several[0].content, " ");
  EXPECT_THAT(several[0].media,
              ElementsAre(MediaPart{"image", "1.jpg", 0}, MediaPart{"audio", "a.wav", 1},
                          MediaPart{"image", "2.jpg", 1}));
  const auto text_only = messages_in(
      R"({"image": null, "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]})");
  EXPECT_THAT(text_only, ElementsAre(Message{"user", "hi"}, Message{"assistant", "ho"}));
  const auto roles = messages_in(
      R"({"conversations": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]})");
  EXPECT_THAT(roles, ElementsAre(Message{"user", "hi"}, Message{"assistant", "ho"}));
}

TEST(RecordMedia, MediaAlone) {
  const Record one = parse_json_record(R"({"image": "a.png", "label": 3})");
  EXPECT_TRUE(one.messages.empty());
  EXPECT_THAT(one.media, ElementsAre(MediaPart{"image", "a.png"}));
  EXPECT_THAT(parse_json_record(R"({"images": ["a.png", "b.png"], "audios": ["c.wav"]})").media,
              ElementsAre(MediaPart{"image", "a.png"}, MediaPart{"image", "b.png"},
                          MediaPart{"audio", "c.wav"}));
}

TEST(RecordMedia, RefusesAndSaysWhy) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {with_parts(R"({"type": "image", "image": "https://a.org/b.png"})"),
       "messages[0].content[0].image lies at https://a.org/b.png, but nothing is fetched over "
       "https"},
      {with_parts(R"({"type": "image_url", "image_url": {"url": "http://a.org/b.png"}})"),
       "messages[0].content[0].image_url.url lies at http://a.org/b.png"},
      {with_parts(R"({"type": "image", "image": "s3://bucket/b.png"})"), "fetched over s3"},
      {with_parts(R"({"type": "image", "image": "data:image/png,abc"})"), "only base64"},
      {with_parts(R"({"type": "image", "image": ""})"), "empty location"},
      {with_parts(R"({"type": "image", "image": 3})"),
       "content[0].image is not a string but number"},
      {with_parts(R"({"type": "image", "image": {}})"), "none of \"url\", \"path\", \"base64\""},
      {with_parts(R"({"type": "image_url"})"), "content[0] has no \"image_url\""},
      {with_parts(R"({"type": "input_audio", "input_audio": {"format": "wav"}})"),
       "content[0] has no \"input_audio\": {\"data\""},
      {with_parts(R"({"type": "video", "video": "a.mp4"})"),
       "content[0] is of type \"video\"; known are text, image"},
      {with_parts(R"({"type": "text"})"), "content[0] has no \"text\""},
      {with_parts(R"({"type": "text", "text": 3})"), "content[0].text is not a string"},
      {with_parts(R"({"text": "a"})"), "no object with a \"type\""},
      {with_parts(R"({"type": "image"})"), "1 place for image"},
      {with_parts(R"({"type": "image"})"), "but 0 files in \"images\""},
      {with_parts(R"({"type": "image"}, {"type": "image"})", R"(, "image": "a.png")"),
       "2 places for image (<image> or {\"type\": \"image\"}), but 1 file in \"image\""},
      {with_parts(R"({"type": "text", "text": "a"})", R"(, "audios": ["a.wav", "b.wav"])"),
       "0 places for audio (<audio> or {\"type\": \"audio\"}), but 2 files in \"audios\""},
      {with_parts("", R"(, "images": [3])"), "images[0] is not a string"},
      {with_parts("", R"(, "images": ["a"], "image": "b")"), "both \"image\" and \"images\""},
      {with_parts("", R"(, "videos": ["a.mp4"])"), "video is not read"},
      {R"({"conversations": [{"from": "human", "value": "<image>a"}]})",
       "1 place for image (<image> or {\"type\": \"image\"}), but 0 files"},
      {R"({"image": "a.png", "conversations": [{"from": "human", "value": "a"}]})",
       "0 places for image (<image> or {\"type\": \"image\"}), but 1 file in \"image\""},
      {R"({"conversations": [{"from": "human"}]})", "conversations[0] has no \"value\""},
      {R"({"conversations": [{"value": "a"}]})", "conversations[0] has no \"role\""},
      {R"({"conversations": []})", "\"conversations\" is empty"},
      {R"({"image": "a.png", "text": "a cat"})", "has media beside \"text\""},
      {R"({"image": []})", "has neither \"messages\" nor \"text\""},
  };
  for (const auto& [line, reason] : cases) EXPECT_THAT(refusal(line), HasSubstr(reason)) << line;
}

TEST(RecordMedia, OtherKeysOfATextAreIgnored) {
  EXPECT_EQ(parse_json_record(R"({"text": "a", "video": "x", "images": []})").text, "a");
}

TEST(RecordMedia, RelativePathsAreRelativeToTheRecordsFile) {
  const ScratchDir dir;
  const auto source = open_file_source(
      {.path = dir.write("sub/a.jsonl",
                         with_parts(R"({"type": "image", "image": "pics/b.png"}, )"
                                    R"({"type": "image", "image": "/abs/b.png"}, )"
                                    R"({"type": "image", "image": "data:;base64,AAAA"}, )"
                                    R"({"type": "image", "image": "file:rel.png"})") +
                             "\n{\"image\": \"../c.png\"}\n")});
  std::vector<std::string> locations;
  for (int64_t i = 0; i < source->size(); ++i) {
    const Record record = source->read(i);
    for (const Message& message : record.messages) {
      for (const MediaPart& part : message.media) locations.push_back(part.location);
    }
    for (const MediaPart& part : record.media) locations.push_back(part.location);
  }
  EXPECT_THAT(locations,
              ElementsAre(dir.path() + "/sub/pics/b.png", "/abs/b.png", "data:;base64,AAAA",
                          dir.path() + "/sub/rel.png", dir.path() + "/sub/../c.png"));
}

TEST(RecordMedia, ThePagesExamplesAreRecords) {
  std::ifstream page(std::string(VEOMNI_SOURCE_DIR) + "/docs/data.md");
  ASSERT_TRUE(page.good());
  bool inside = false;
  int examples = 0;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("```", 0) == 0) {
      inside = line == "```jsonl";
    } else if (inside) {
      EXPECT_NO_THROW(parse_json_record(line)) << line;
      ++examples;
    }
  }
  EXPECT_GT(examples, 12);
}

TEST(MediaLocation, ReadsFilesAndData) {
  const ScratchDir dir;
  const std::string file = dir.write("a.bin", "abcd");
  EXPECT_EQ(read_location(file, 4).size(), 4u);
  EXPECT_EQ(read_location("data:;base64,Zm9v", 3).size(), 3u);
  const auto reason = [](const std::string& location, int64_t limit) -> std::string {
    try {
      read_location(location, limit);
    } catch (const BadRecord& bad) {
      return bad.what();
    }
    return "(it was read)";
  };
  EXPECT_THAT(reason(file, 3), HasSubstr("has 4 bytes, more than data.max_media_bytes: 3"));
  EXPECT_THAT(reason("data:;base64,Zm9v", 2), HasSubstr("max_media_bytes"));
  EXPECT_THAT(reason(dir.path() + "/absent", 9), HasSubstr("cannot be opened: No such file"));
  EXPECT_THAT(reason(dir.path(), 9), HasSubstr("no regular file"));
  EXPECT_THAT(reason("data:;base64,!", 9), HasSubstr("base64"));
  EXPECT_EQ(describe_location("data:image/png;base64,AAAA"),
            "data:image/png;base64,… (4 characters)");
  EXPECT_EQ(describe_location("a.png"), "a.png");
}

}  // namespace veomni::data
