// SPDX-License-Identifier: Apache-2.0
#include "sample_maker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "scratch.h"

namespace veomni::data {

namespace {
Record text_record(const std::string& text) { return {.text = text}; }

MadeSamples make(const Record& record, const DataOptions& options, int64_t budget = 64) {
  return SampleMaker(options, budget, small_tokenizer())
      .make(record, "s", {.source = 1, .record = 5});
}
const std::string kLong = "0123456789abcdefghij";  // digits and rare letters: a token each, nearly
}  // namespace

TEST(SampleMaker, TextIsTrainedButForItsFirstToken) {
  const MadeSamples made = make(text_record("the cat"), {});
  ASSERT_EQ(made.samples.size(), 1u);
  const Sample& sample = made.samples[0];
  EXPECT_EQ(sample.ids.back(), *small_tokenizer().special().eos);
  EXPECT_EQ(sample.labels[0], -100);
  for (int64_t i = 1; i < sample.size(); ++i) EXPECT_EQ(sample.labels[i], sample.ids[i]);
  const auto first = small_tokenizer().bytes_of(sample.ids[0]).size();
  EXPECT_EQ(sample.target_bytes, static_cast<int64_t>(std::string("the cat").size() - first));
  EXPECT_EQ(make(text_record("the cat"), {.append_eos = false}).samples[0].size(),
            sample.size() - 1);
}

TEST(SampleMaker, ConversationTrainsAnswersOnly) {
  const Record record{.messages = {{"user", "what is a potato?"}, {"assistant", "a plant"}}};
  const Sample sample = make(record, {}).samples.at(0);
  EXPECT_EQ(sample.target_bytes, 7);
  int64_t targets = 0;
  for (int64_t i = 0; i < sample.size(); ++i) targets += sample.labels[i] != -100;
  EXPECT_EQ(targets, static_cast<int64_t>(small_tokenizer().encode("a plant").size()) + 1);
}

TEST(SampleMaker, LongSamples) {
  const auto all = small_tokenizer().encode(kLong);
  ASSERT_GT(all.size(), 15u);
  DataOptions options{.append_eos = false, .max_sample_tokens = 8};

  MadeSamples made = make(text_record(kLong), options);
  EXPECT_TRUE(made.truncated);
  ASSERT_EQ(made.samples.size(), 1u);
  EXPECT_EQ(made.samples[0].ids, std::vector<int32_t>(all.begin(), all.begin() + 8));

  options.long_sample = "skip";
  made = make(text_record(kLong), options);
  EXPECT_TRUE(made.too_long);
  EXPECT_TRUE(made.samples.empty());

  options.long_sample = "split";
  made = make(text_record(kLong), options);
  EXPECT_TRUE(made.split);
  std::vector<int32_t> targets;
  std::set<uint64_t> ids;
  for (size_t i = 0; i < made.samples.size(); ++i) {
    EXPECT_LE(made.samples[i].size(), 8);
    EXPECT_EQ(made.samples[i].ref.chunk, static_cast<int32_t>(i));
    ids.insert(made.samples[i].id);
    for (const int32_t label : made.samples[i].labels) {
      if (label != -100) targets.push_back(label);
    }
  }
  EXPECT_EQ(ids.size(), made.samples.size());
  EXPECT_EQ(targets, std::vector<int32_t>(all.begin() + 1, all.end()));  // each but the first, once

  options.max_sample_tokens = 16;
  const MadeSamples talk = make({.messages = {{"assistant", kLong}}}, options);
  EXPECT_TRUE(talk.truncated);  // conversations are not split
  EXPECT_EQ(talk.samples.size(), 1u);
}

TEST(SampleMaker, SplitAtEveryLength) {
  for (int64_t limit = 2; limit <= 24; ++limit) {
    const MadeSamples made =
        make(text_record(kLong),
             {.append_eos = false, .max_sample_tokens = limit, .long_sample = "split"});
    size_t targets = 0;
    for (const Sample& sample : made.samples) {
      EXPECT_GE(sample.size(), 2);
      targets += static_cast<size_t>(sample.size()) - 1;
    }
    EXPECT_EQ(targets, small_tokenizer().encode(kLong).size() - 1) << limit;
  }
}

TEST(SampleMaker, NothingToTrainIsABadRecord) {
  const DataOptions options{.append_eos = false, .max_sample_tokens = 4};
  const auto reason = [&](const Record& record) -> std::string {
    try {
      make(record, options);
    } catch (const BadRecord& bad) {
      return bad.what();
    }
    return "(it was taken)";
  };
  EXPECT_THAT(reason(text_record("")), testing::HasSubstr("too short"));
  EXPECT_THAT(reason(text_record("x")), testing::HasSubstr("too short"));
  EXPECT_THAT(reason({.messages = {{"user", ""}}}), testing::HasSubstr("nothing to train is left"));
  EXPECT_THAT(reason({.messages = {{"user", kLong}, {"assistant", "a"}}}),
              testing::HasSubstr("nothing to train is left"));
  try {
    make({.messages = {{"user", "a"}}}, {});
    FAIL() << "a conversation without an answer was taken";
  } catch (const BadRecord& bad) {
    EXPECT_STREQ(bad.what(), "no assistant message, so nothing to train");
  }
}

TEST(SampleMaker, IdsAreStableAndDistinct) {
  const SampleMaker maker({}, 64, small_tokenizer());
  const auto id = [&](const std::string& name, int64_t record) {
    return maker.make(text_record("the cat"), name, {.record = record}).samples.at(0).id;
  };
  EXPECT_EQ(id("a", 1), id("a", 1));
  EXPECT_NE(id("a", 1), id("b", 1));
  EXPECT_NE(id("a", 1), id("a", 2));
}

TEST(SampleMaker, RefusesWrongLimits) {
  EXPECT_THROW(SampleMaker({.max_sample_tokens = 65}, 64, small_tokenizer()), ConfigError);
  EXPECT_THROW(SampleMaker({.max_sample_tokens = 1}, 64, small_tokenizer()), ConfigError);
  EXPECT_THROW(SampleMaker({}, 1, small_tokenizer()), ConfigError);
  EXPECT_THROW(SampleMaker({.chat_template = "llama2"}, 64, small_tokenizer()), ConfigError);
}

}  // namespace veomni::data
