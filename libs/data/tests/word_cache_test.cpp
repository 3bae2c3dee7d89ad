// SPDX-License-Identifier: Apache-2.0
#include "word_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>

namespace veomni::data {
namespace {

using Ids = std::vector<int32_t>;

TEST(WordCache, GivesBackWhatItTook) {
  const auto cache = std::make_unique<WordCache>();
  cache->insert("", {});
  cache->insert("a", {7});
  cache->insert("ab", {8, 9});
  cache->insert("a", {1});  // stays 7
  Ids ids = {5};
  EXPECT_TRUE(cache->append_to("ab", ids));
  EXPECT_TRUE(cache->append_to("", ids));
  EXPECT_TRUE(cache->append_to("a", ids));
  EXPECT_FALSE(cache->append_to("b", ids));
  EXPECT_EQ(ids, (Ids{5, 8, 9, 7}));
}

TEST(WordCache, TakesNoLongWords) {
  const auto cache = std::make_unique<WordCache>();
  Ids ids;
  cache->insert(std::string(64, 'x'), Ids(64, 3));
  cache->insert(std::string(65, 'x'), {3});
  EXPECT_TRUE(cache->append_to(std::string(64, 'x'), ids));
  EXPECT_FALSE(cache->append_to(std::string(65, 'x'), ids));
  EXPECT_EQ(ids, Ids(64, 3));
}

/// More words than there is room for, short ones (slots run out) and long ones (bytes do), from two threads.
TEST(WordCache, StaysRightWhenItIsFull) {
  for (const int length : {6, 60}) {
    const auto cache = std::make_unique<WordCache>();
    const auto word = [&](int i) {
      std::string text = std::to_string(i);
      return std::string(length - text.size(), '.') + text;
    };
    constexpr int kWords = 100'000;
    const auto fill = [&](int first) {
      for (int i = first; i < kWords; i += 2) cache->insert(word(i), {i, -i});
    };
    std::thread other(fill, 1);
    fill(0);
    other.join();
    int kept = 0;
    for (int i = 0; i < kWords; ++i) {
      Ids ids;
      if (!cache->append_to(word(i), ids)) continue;
      ++kept;
      ASSERT_EQ(ids, (Ids{i, -i}));
    }
    EXPECT_GT(kept, length == 6 ? 65'000 : 36'000);
    EXPECT_LE(kept, 16 * 4096);
  }
}

}  // namespace
}  // namespace veomni::data
