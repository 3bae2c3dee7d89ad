// SPDX-License-Identifier: Apache-2.0
// Conversations with pictures and sound to samples and prompts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_processor.h"
#include "sample_maker.h"
#include "scratch.h"
#include "veomni/data/prompt.h"

namespace veomni::data {

namespace {
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;

int32_t id_of(const std::string& token) { return small_tokenizer().token_to_id(token).value(); }

MediaPart picture(const std::string& grid, size_t at = 0) { return {"image", data_uri(grid), at}; }
MediaPart clip(const std::string& grid, size_t at = 0) { return {"audio", data_uri(grid), at}; }

MadeSamples make(const Record& record, const DataOptions& options = {},
                 const MediaProcessors& processors = fake_processors(), int64_t budget = 256) {
  return SampleMaker(options, budget, small_tokenizer(), processors)
      .make(record, "s", {.source = 1, .record = 5});
}

std::string refusal(const Record& record, const MediaProcessors& processors = fake_processors(),
                    const DataOptions& options = {}) {
  try {
    make(record, options, processors);
  } catch (const BadRecord& bad) {
    return bad.what();
  }
  return "(it was taken)";
}

std::string text_of(const std::vector<int32_t>& ids) {
  return small_tokenizer().decode(ids, false);
}

std::string pads(const std::string& token, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += token;
  return all;
}

// What the labels train, as text.
std::string trained_text(const Sample& sample) {
  std::vector<int32_t> ids;
  for (const int32_t label : sample.labels) {
    if (label != -100) ids.push_back(label);
  }
  return text_of(ids);
}

const Record kTalk{
    .messages = {{"system", "the cat"},
                 {"user", "what is  this?", {picture("1 2 3", 8), clip("4 1 1", 14)}},
                 {"assistant", "a plant, and\n", {picture("1 2 2", 7)}}}};
}  // namespace

TEST(MediaSamples, IdsAreThoseOfTheWholeTextWithPads) {
  const Sample sample = make(kTalk).samples.at(0);
  const std::string text =
      "<|im_start|>system\nthe cat<|im_end|>\n<|im_start|>user\nwhat is <|vision_start|>" +
      pads("<|image_pad|>", 6) + "<|vision_end|> this?<|audio_bos|>" + pads("<|AUDIO|>", 4) +
      "<|audio_eos|><|im_end|>\n<|im_start|>assistant\na plant<|vision_start|>" +
      pads("<|image_pad|>", 4) + "<|vision_end|>, and\n<|im_end|>\n";
  EXPECT_EQ(sample.ids, small_tokenizer().encode(text));
}

TEST(MediaSamples, ItemsPointAtTheirPads) {
  const Sample sample = make(kTalk).samples.at(0);
  ASSERT_EQ(sample.media.size(), 3u);
  EXPECT_THAT((std::vector<std::string>{sample.media[0].modality, sample.media[1].modality,
                                        sample.media[2].modality}),
              ElementsAre("image", "audio", "image"));
  EXPECT_FALSE(sample.media[0].target);
  EXPECT_FALSE(sample.media[1].target);
  EXPECT_TRUE(sample.media[2].target);
  const int32_t begins[] = {id_of("<|vision_start|>"), id_of("<|audio_bos|>"),
                            id_of("<|vision_start|>")};
  const int32_t ends[] = {id_of("<|vision_end|>"), id_of("<|audio_eos|>"), id_of("<|vision_end|>")};
  const int32_t pad_ids[] = {id_of("<|image_pad|>"), id_of("<|AUDIO|>"), id_of("<|image_pad|>")};
  for (int i = 0; i < 3; ++i) {
    const int64_t begin = sample.media[i].begin, tokens = sample.media[i].features->tokens;
    EXPECT_EQ(sample.ids[begin - 1], begins[i]);
    EXPECT_EQ(sample.ids[begin + tokens], ends[i]);
    for (int64_t t = 0; t < tokens; ++t) EXPECT_EQ(sample.ids[begin + t], pad_ids[i]);
  }
}

TEST(MediaSamples, TheAssistantsDelimitersAreTrainedAndNoPadIs) {
  const Sample sample = make(kTalk).samples.at(0);
  EXPECT_EQ(trained_text(sample), "a plant<|vision_start|><|vision_end|>, and\n<|im_end|>");
  EXPECT_EQ(sample.target_bytes, static_cast<int64_t>(std::string("a plant, and\n").size()));
}

TEST(MediaSamples, APictureAloneIsAnAnswer) {
  const Record record{.messages = {{"user", "a cat"}, {"assistant", "", {picture("1 2 2")}}}};
  const Sample sample = make(record).samples.at(0);
  EXPECT_EQ(trained_text(sample), "<|vision_start|><|vision_end|><|im_end|>");
}

TEST(MediaSamples, PlainTemplate) {
  const DataOptions options{.chat_template = "plain"};
  const Record record{.messages = {{"user", "the ", {picture("1 1 2", 4)}}, {"assistant", "cat"}}};
  const Sample sample = make(record, options).samples.at(0);
  EXPECT_EQ(text_of(sample.ids),
            "the <|vision_start|><|image_pad|><|image_pad|><|vision_end|>\ncat\n");
  EXPECT_EQ(trained_text(sample), "cat\n");
}

TEST(MediaSamples, TokensOfTheRecipe) {
  DataOptions options;
  options.media.image = {.begin = "", .pad = "<|AUDIO|>", .end = ""};
  MediaProcessors processors = fake_processors();
  processors.targets.clear();
  const Record record{.messages = {{"user", "a", {picture("1 1 3")}}, {"assistant", "b"}}};
  const Sample sample = make(record, options, processors).samples.at(0);
  EXPECT_EQ(text_of(sample.ids),
            "<|im_start|>user\n<|AUDIO|><|AUDIO|><|AUDIO|>a<|im_end|>\n"
            "<|im_start|>assistant\nb<|im_end|>\n");
}

TEST(MediaSamples, TokensThatAreLackingAreNamedWhenTheirModalityIsUsed) {
  DataOptions options;
  options.media.audio.pad = "<|sound|>";
  const auto refused = [&](const MediaProcessors& processors) -> std::string {
    try {
      SampleMaker(options, 64, small_tokenizer(), processors);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "(it was taken)";
  };
  EXPECT_THAT(refused(fake_processors()), HasSubstr("data.media.audio.pad is '<|sound|>'"));
  MediaProcessors pictures = fake_processors();
  pictures.inputs.erase("audio");
  EXPECT_EQ(refused(pictures), "(it was taken)");
  options.media.image.begin = "";
  EXPECT_THAT(refused(pictures), HasSubstr("data.media.image.begin is empty"));
  pictures.targets.clear();
  EXPECT_EQ(refused(pictures), "(it was taken)");
  pictures.inputs["smell"] = pictures.inputs["image"];
  EXPECT_THAT(refused(pictures), HasSubstr("'smell' (known: image, audio)"));
}

TEST(MediaSamples, BadMediaAreNamed) {
  const auto with = [](const MediaPart& part, const std::string& role = "user") {
    Record record{.messages = {{"user", "a"}, {"assistant", "b"}}};
    record.messages[role == "user" ? 0 : 1].media = {part};
    return record;
  };
  EXPECT_EQ(refusal(with({"image", "/absent/x.png"})),
            "image /absent/x.png: cannot be opened: No such file or directory");
  EXPECT_EQ(refusal(with(picture("no grid"))),
            "image data:image/png;base64,… (12 characters): is no picture");
  EXPECT_EQ(refusal(with({"image", "data:;base64,=A=="})),
            "image data:;base64,… (4 characters): base64: no digit at character 0");
  EXPECT_THAT(refusal(with(picture("0 1 1"))), HasSubstr("it gives no token"));
  EXPECT_EQ(refusal(with(picture("1 1 1")), {}),
            "no encoder for 'image'; add model.encoders.image");
  MediaProcessors encoders = fake_processors();
  encoders.targets.clear();
  EXPECT_THAT(refusal(with(picture("1 1 1"), "assistant"), encoders),
              HasSubstr("no decoder for 'image'; add model.decoders.image"));
  EXPECT_THAT(refusal(with(clip("1 1 1"), "assistant")), HasSubstr("no decoder for 'audio'"));
  EXPECT_THAT(refusal({.media = {picture("1 1 1")}}), HasSubstr("decoder's tokenizer"));
}

TEST(MediaSamples, PadsInTextAreRefusedWhereTheyWouldStandForNothing) {
  const Record talk{.messages = {{"user", "<|image_pad|>"}, {"assistant", "b"}}};
  EXPECT_THAT(refusal(talk), HasSubstr("its text holds <|image_pad|>"));
  EXPECT_THAT(refusal({.text = "the <|AUDIO|> cat"}), HasSubstr("its text holds <|AUDIO|>"));
  EXPECT_EQ(refusal(talk, {}), "(it was taken)");
  const Record beside{
      .messages = {{"user", "<|image_pad|>", {picture("1 2 2", 13)}}, {"assistant", "b"}}};
  EXPECT_THAT(refusal(beside), HasSubstr("its text holds <|image_pad|>"));
}

TEST(MediaSamples, ACutNeverFallsInsideAnItem) {
  const Record record{
      .messages = {{"assistant", "the cat", {picture("1 2 3", 3), picture("1 2 3", 7)}}}};
  const Sample whole = make(record).samples.at(0);
  ASSERT_EQ(whole.media.size(), 2u);
  const auto first_target = std::find_if(whole.labels.begin(), whole.labels.end(),
                                         [](int32_t label) { return label != -100; });
  for (int64_t limit = std::max<int64_t>(12, first_target - whole.labels.begin() + 1);
       limit <= whole.size(); ++limit) {
    const MadeSamples made = make(record, {.max_sample_tokens = limit});
    ASSERT_EQ(made.samples.size(), 1u) << limit;
    const Sample& sample = made.samples[0];
    EXPECT_EQ(made.truncated, limit < whole.size());
    EXPECT_TRUE(std::equal(sample.ids.begin(), sample.ids.end(), whole.ids.begin()));
    int64_t expected = limit;
    for (const MediaItem& item : whole.media) {
      const int64_t first = item.begin - 1, last = item.begin + 6 + 1;
      if (first < limit && limit < last) expected = first;
    }
    EXPECT_EQ(sample.size(), expected) << limit;
    for (const MediaItem& item : sample.media) EXPECT_LE(item.begin + 6 + 1, sample.size());
    const auto fits = [&](const MediaItem& item) { return item.begin < expected; };
    EXPECT_EQ(sample.media.size(),
              static_cast<size_t>(std::count_if(whole.media.begin(), whole.media.end(), fits)));
  }
}

TEST(MediaSamples, MediaThatDoNotFitByThemselvesAreTooLong) {
  const Record record{
      .messages = {{"user", "", {picture("1 2 3"), picture("1 2 3")}}, {"assistant", "a"}}};
  for (const char* long_sample : {"truncate", "split", "skip"}) {
    const MadeSamples made = make(record, {.max_sample_tokens = 11, .long_sample = long_sample});
    EXPECT_TRUE(made.too_long) << long_sample;
    EXPECT_THAT(made.samples, IsEmpty());
  }
  // 12 fit, but not with the answer behind them.
  EXPECT_THAT(refusal(record, fake_processors(), {.max_sample_tokens = 12}),
              HasSubstr("nothing to train is left"));
}

TEST(MediaSamples, OnlyTargets) {
  MediaProcessors processors = fake_processors();
  processors.only_targets = true;
  const SampleMaker maker({}, 16, Tokenizer(), processors);  // no tokenizer
  const auto make_of = [&](const Record& record) { return maker.make(record, "s", {.record = 2}); };
  const MadeSamples made = make_of(
      {.messages = {
           {"user", "a", {picture("1 9 9")}},
           {"assistant", "b", {picture("1 2 2 100"), clip("3 1 1"), picture("1 1 1 200")}}}});
  ASSERT_EQ(made.samples.size(), 2u);
  for (int i = 0; i < 2; ++i) {
    const Sample& sample = made.samples[i];
    EXPECT_THAT(sample.ids, ElementsAreArray(std::vector<int32_t>(i == 0 ? 4 : 1, 0)));
    EXPECT_THAT(sample.labels, ElementsAreArray(std::vector<int32_t>(i == 0 ? 4 : 1, -100)));
    ASSERT_EQ(sample.media.size(), 1u);
    EXPECT_EQ(sample.media[0].begin, 0);
    EXPECT_TRUE(sample.media[0].target);
    EXPECT_EQ(sample.media[0].features->values[0], i == 0 ? 100 : 200);
    EXPECT_EQ(sample.ref.chunk, i);
    EXPECT_EQ(sample.target_bytes, 0);
  }
  EXPECT_NE(made.samples[0].id, made.samples[1].id);
  EXPECT_EQ(make_of({.media = {picture("1 2 2"), picture("1 2 1")}}).samples.size(), 2u);
  EXPECT_TRUE(make_of({.media = {picture("1 5 4")}}).too_long);
  const auto reason = [&](const Record& record) -> std::string {
    try {
      make_of(record);
    } catch (const BadRecord& bad) {
      return bad.what();
    }
    return "(it was taken)";
  };
  EXPECT_THAT(reason({.text = "the cat"}), HasSubstr("no media of an assistant"));
  EXPECT_THAT(reason({.messages = {{"user", "", {picture("1 1 1")}}, {"assistant", "a"}}}),
              HasSubstr("no media of an assistant"));
  EXPECT_THAT(reason({.media = {clip("1 1 1")}}), HasSubstr("none of its targets has a decoder"));
  EXPECT_THAT(reason({.media = {picture("?")}}), HasSubstr("is no picture"));
  EXPECT_THROW(SampleMaker({}, 16, Tokenizer(), fake_processors()), ConfigError);
}

TEST(PromptMaker, EndsWithAnAssistantsHeaderAndTrainsNothing) {
  const PromptMaker prompts({}, small_tokenizer(), fake_processors());
  const std::vector<Message> talk = {{"user", "what?", {picture("1 2 2", 5)}}};
  const Sample prompt = prompts.make(talk);
  EXPECT_EQ(text_of(prompt.ids), "<|im_start|>user\nwhat?<|vision_start|>" +
                                     pads("<|image_pad|>", 4) +
                                     "<|vision_end|><|im_end|>\n<|im_start|>assistant\n");
  EXPECT_THAT(prompt.labels, testing::Each(-100));
  EXPECT_EQ(prompt.labels.size(), prompt.ids.size());
  ASSERT_EQ(prompt.media.size(), 1u);
  EXPECT_FALSE(prompt.media[0].target);
  EXPECT_EQ(prompt.ids[prompt.media[0].begin - 1], prompts.begin_token("image"));
  EXPECT_EQ(prompt.ids[prompt.media[0].begin + 4], prompts.end_token("image"));
  EXPECT_THAT(prompts.stop_ids(), ElementsAre(id_of("<|im_end|>")));
  // What training sees of the same conversation.
  std::vector<Message> whole = talk;
  whole.push_back({"assistant", "a plant"});
  const Sample trained = make({.messages = whole}).samples.at(0);
  EXPECT_TRUE(std::equal(prompt.ids.begin(), prompt.ids.end(), trained.ids.begin()));
}

TEST(PromptMaker, UnconditionalKeepsMediaTurnsAndAnswers) {
  const PromptMaker prompts({}, small_tokenizer(), fake_processors());
  const std::vector<Message> talk = {{"system", "the cat"},
                                     {"user", "what is", {picture("1 1 2", 4)}},
                                     {"assistant", "a plant"},
                                     {"user", "and?"}};
  EXPECT_EQ(text_of(prompts.make_unconditional(talk).ids),
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|vision_start|>"
            "<|image_pad|><|image_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\na plant"
            "<|im_end|>\n<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n");
}

TEST(PromptMaker, NamesWhatItCannotServe) {
  const PromptMaker without({}, small_tokenizer(), {});
  EXPECT_EQ(without.begin_token("image"), id_of("<|vision_start|>"));
  EXPECT_THROW(without.begin_token("smell"), ConfigError);
  const std::vector<Message> talk = {{"user", "", {picture("1 1 1")}}};
  EXPECT_THROW(without.make(talk), BadRecord);
  DataOptions options;
  options.media.image.end = "";
  EXPECT_THROW(PromptMaker(options, small_tokenizer(), {}).end_token("image"), ConfigError);
  const Tokenizer bare(train_bpe(texts_of({}), {.vocab_size = 256, .special_tokens = {}}));
  EXPECT_THROW(PromptMaker({}, Tokenizer(), {}), ConfigError);
  EXPECT_THROW(PromptMaker({.chat_template = "plain"}, bare, fake_processors()), ConfigError);
}

}  // namespace veomni::data
