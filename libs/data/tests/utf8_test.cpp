// SPDX-License-Identifier: Apache-2.0
#include "utf8.h"

#include <gtest/gtest.h>

namespace veomni::data {

TEST(Utf8, KeepsWellFormedText) {
  const std::string text = "a\u00e9\u20ac\U0001F600";
  EXPECT_EQ(first_invalid_utf8(text), std::string::npos);
  EXPECT_EQ(to_valid_utf8(text), text);
}

// Unicode 15, table 3-11: one replacement for each maximal ill-formed part.
TEST(Utf8, ReplacesMaximalIllFormedParts) {
  EXPECT_EQ(to_valid_utf8("a\xF1\x80\x80\xE1\x80\xC2"
                          "b\x80"
                          "c\x80\xBF"
                          "d"),
            "a\uFFFD\uFFFD\uFFFD"
            "b\uFFFD"
            "c\uFFFD\uFFFD"
            "d");
  EXPECT_EQ(to_valid_utf8("\xC0\xAF"), "\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(to_valid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");            // a surrogate
  EXPECT_EQ(to_valid_utf8("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // above U+10FFFF
  EXPECT_EQ(to_valid_utf8("x\xE2\x82"), "x\uFFFD");                          // cut off
  EXPECT_EQ(first_invalid_utf8("ab\xFF"), 2u);
}

TEST(Utf8, CodePointsRoundTrip) {
  for (const char32_t code :
       {U'\0', U'\x7F', U'\x80', U'\u07FF', U'\u0800', U'\uFFFD', U'\U00010000', U'\U0010FFFF'}) {
    std::string text;
    append_utf8(text, code);
    size_t at = 0;
    EXPECT_EQ(next_code_point(text, at), code);
    EXPECT_EQ(at, text.size());
  }
}

}  // namespace veomni::data
