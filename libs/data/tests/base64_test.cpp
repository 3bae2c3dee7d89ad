// SPDX-License-Identifier: Apache-2.0
#include "base64.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_processor.h"
#include "veomni/base/rng.h"
#include "veomni/data/source.h"

namespace veomni::data {

namespace {
std::string decoded(const std::string& text) {
  const std::vector<std::byte> bytes = decode_base64(text);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string refusal(const std::string& text) {
  try {
    decode_base64(text);
  } catch (const BadRecord& bad) {
    return bad.what();
  }
  return "(it was taken)";
}
}  // namespace

// RFC 4648 section 10.
TEST(Base64, TheStandardsExamples) {
  EXPECT_EQ(decoded(""), "");
  EXPECT_EQ(decoded("Zg=="), "f");
  EXPECT_EQ(decoded("Zm8="), "fo");
  EXPECT_EQ(decoded("Zm9v"), "foo");
  EXPECT_EQ(decoded("Zm9vYg=="), "foob");
  EXPECT_EQ(decoded("Zm9vYmE="), "fooba");
  EXPECT_EQ(decoded("Zm9vYmFy"), "foobar");
}

TEST(Base64, EveryByteAtEveryLength) {
  KeyedRng rng(1, "bytes");
  for (size_t size = 0; size < 300; ++size) {
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(rng.below(256));
    ASSERT_EQ(decoded(base64_of(bytes)), bytes);
  }
}

TEST(Base64, RefusesWhatIsNotItsOneForm) {
  using testing::HasSubstr;
  EXPECT_THAT(refusal("Zg"), HasSubstr("no multiple of 4"));
  EXPECT_THAT(refusal("Zg="), HasSubstr("no multiple of 4"));
  EXPECT_THAT(refusal("Zm9v\n"), HasSubstr("no multiple of 4"));
  EXPECT_THAT(refusal("Zm9v Zm9"), HasSubstr("at character 4"));
  EXPECT_THAT(refusal("Zm-_"), HasSubstr("at character 2"));
  EXPECT_THAT(refusal("Z==="), HasSubstr("at character 1"));
  EXPECT_THAT(refusal("===="), HasSubstr("at character 0"));
  EXPECT_THAT(refusal("Zg==Zg=="), HasSubstr("at character 2"));
  EXPECT_THAT(refusal("Zh=="), HasSubstr("bits are set behind"));
  EXPECT_THAT(refusal("Zm9="), HasSubstr("bits are set behind"));
  EXPECT_THAT(refusal("Zm9\xC3"), HasSubstr("at character 3"));
}

}  // namespace veomni::data
