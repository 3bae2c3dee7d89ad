// SPDX-License-Identifier: Apache-2.0
#include "unicode_regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "veomni/base/error.h"

namespace veomni::data {

namespace {
std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  std::vector<std::string> found;
  Regex(pattern).for_each_match(
      text, [&](size_t begin, size_t end) { found.push_back(text.substr(begin, end - begin)); });
  return found;
}
}  // namespace

using testing::ElementsAre;

TEST(Regex, FindsAllMatches) {
  EXPECT_THAT(matches(R"(\p{L}+|\p{N})", "ab \u00e912"), ElementsAre("ab", "\u00e9", "1", "2"));
  EXPECT_THAT(matches("x*", "axxb"), ElementsAre("xx"));  // empty matches are passed over
}

// U+180E is white space for PCRE2's own \s and not for Unicode.
TEST(Regex, SpaceIsUnicodeWhiteSpace) {
  EXPECT_THAT(matches(R"(\s+)", "a\u180Eb\u0085c\u3000d"), ElementsAre("\u0085", "\u3000"));
  EXPECT_THAT(matches(R"([^\s]+)", "a\u180Eb c"), ElementsAre("a\u180Eb", "c"));
  EXPECT_THAT(matches(R"(\\s\S)", "\\sx y"), ElementsAre("\\sx"));
}

TEST(Regex, LongBacktrackingNeedsNoDeepStack) {
  const std::string spaces(3000000, ' ');
  EXPECT_EQ(matches(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", spaces + "x").size(), 2u);
  EXPECT_EQ(matches(R"((?:a|b)*c)", std::string(200000, 'a') + "c").size(), 1u);
}

TEST(Regex, SaysWhereAPatternIsWrong) {
  try {
    Regex("a(b");
    FAIL() << "an unclosed group compiled";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("'a(b' does not compile"));
  }
  EXPECT_THROW(Regex("\xFF"), Error);
}

}  // namespace veomni::data
