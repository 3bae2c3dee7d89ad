// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scratch.h"
#include "veomni/base/error.h"

namespace veomni::data {

namespace {
const std::vector<Message> kTalk = {{"system", "the cat"},
                                    {"user", "what is a potato?"},
                                    {"assistant", "a plant"},
                                    {"user", "and?"},
                                    {"assistant", "its root"}};

std::string trained_text(const Rendered& rendered) {
  std::vector<int32_t> trained;
  for (size_t i = 0; i < rendered.ids.size(); ++i) {
    if (rendered.trained[i]) trained.push_back(rendered.ids[i]);
  }
  return small_tokenizer().decode(trained, false);
}
}  // namespace

TEST(QwenTemplate, RendersChatMl) {
  const auto chat = make_chat_template("qwen", small_tokenizer());
  const Rendered rendered = chat->render(kTalk);
  const std::string text = chat->text(kTalk, false);
  EXPECT_EQ(text,
            "<|im_start|>system\nthe cat<|im_end|>\n<|im_start|>user\nwhat is a potato?<|im_end|>\n"
            "<|im_start|>assistant\na plant<|im_end|>\n<|im_start|>user\nand?<|im_end|>\n"
            "<|im_start|>assistant\nits root<|im_end|>\n");
  EXPECT_EQ(rendered.ids, small_tokenizer().encode(text));
  EXPECT_EQ(rendered.trained.size(), rendered.ids.size());
}

TEST(QwenTemplate, TrainsAssistantContentAndItsEnd) {
  const auto chat = make_chat_template("qwen", small_tokenizer());
  EXPECT_EQ(trained_text(chat->render(kTalk)), "a plant<|im_end|>its root<|im_end|>");
  EXPECT_EQ(trained_text(chat->render(std::vector<Message>{{"user", "x"}})), "");
  EXPECT_EQ(trained_text(chat->render(std::vector<Message>{{"assistant", ""}})), "<|im_end|>");
}

TEST(QwenTemplate, ContentThatStartsWithSpaceKeepsIdsOfTheWholeText) {
  const auto chat = make_chat_template("qwen", small_tokenizer());
  for (const std::string content : {"\n\na", "  a", "\u0301a", "\t\n"}) {
    const std::vector<Message> talk = {{"assistant", content}};
    EXPECT_EQ(chat->render(talk).ids, small_tokenizer().encode(chat->text(talk, false)));
  }
  // "\n\n" is one token in this vocabulary: it starts in the header, so it is not trained.
  EXPECT_EQ(trained_text(chat->render(std::vector<Message>{{"assistant", "\na"}})), "a<|im_end|>");
}

TEST(QwenTemplate, GenerationPromptIsAPrefixOfTheWhole) {
  const auto chat = make_chat_template("qwen", small_tokenizer());
  const std::vector<Message> question = {{"user", "what?"}};
  std::vector<Message> whole = question;
  whole.push_back({"assistant", "the cat"});
  const auto prompt = chat->render(question, true).ids;
  const auto all = chat->render(whole).ids;
  ASSERT_LT(prompt.size(), all.size());
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), all.begin()));
  EXPECT_EQ(small_tokenizer().decode(prompt, false),
            "<|im_start|>user\nwhat?<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_THAT(chat->stop_ids(), testing::ElementsAre(*small_tokenizer().token_to_id("<|im_end|>")));
}

TEST(QwenTemplate, NeedsItsTokens) {
  const Tokenizer plain(train_bpe(texts_of({}), {.vocab_size = 256, .special_tokens = {}}));
  EXPECT_THROW(make_chat_template("qwen", plain), ConfigError);
}

TEST(PlainTemplate, NeedsNoSpecialToken) {
  const Tokenizer tokenizer(train_bpe(texts_of({}), {.vocab_size = 256, .special_tokens = {}}));
  const auto chat = make_chat_template("plain", tokenizer);
  const Rendered rendered = chat->render(std::vector<Message>{{"user", "ab"}, {"assistant", "cd"}});
  EXPECT_EQ(tokenizer.decode(rendered.ids), "ab\ncd\n");
  EXPECT_THAT(rendered.trained, testing::ElementsAre(0, 0, 0, 1, 1, 1));
  EXPECT_EQ(chat->stop_ids(), tokenizer.encode("\n"));
}

TEST(ChatTemplates, UnknownNameListsTheKnown) {
  EXPECT_THAT(chat_template_names(), testing::ElementsAre("plain", "qwen"));
  try {
    make_chat_template("qwem", small_tokenizer());
    FAIL() << "unknown template accepted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("did you mean 'qwen'"));
  }
}

}  // namespace veomni::data
