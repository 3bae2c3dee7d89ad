// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace veomni {
namespace {

using Words = std::array<uint32_t, 4>;

// The known-answer vectors published with Random123 (kat_vectors, "philox4x32 10").
TEST(Philox, MatchesThePublishedKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// FNV-1a's published 64-bit values.
TEST(HashName, IsFnv1a) {
  EXPECT_EQ(hash_name(""), 0xcbf29ce484222325ULL);
  EXPECT_EQ(hash_name("a"), 0xaf63dc4c8601ec8cULL);
  EXPECT_EQ(hash_name("foobar"), 0x85944171f73967e8ULL);
}

TEST(KeyedRng, TheSameKeyGivesTheSameStreamAndEveryPartOfTheKeyCounts) {
  const KeyedRng rng(1, "init", 2, 3);
  for (uint64_t i = 0; i < 8; ++i) EXPECT_EQ(rng.bits_at(i), KeyedRng(1, "init", 2, 3).bits_at(i));
  std::set<uint32_t> first_words;
  for (const auto& other :
       {rng, KeyedRng(2, "init", 2, 3), KeyedRng(1, "shuffle", 2, 3), KeyedRng(1, "init", 3, 2),
        KeyedRng(1, "init", 2, 4), KeyedRng(1, "init", 2), KeyedRng(1, "init")}) {
    first_words.insert(other.bits_at(0));
  }
  EXPECT_EQ(first_words.size(), 7u);
}

TEST(KeyedRng, SequentialCallsWalkTheRandomAccessStream) {
  KeyedRng rng(7, "sample");
  const KeyedRng at = rng;
  EXPECT_EQ(rng.uniform(), at.uniform_at(0));
  EXPECT_EQ(rng.uniform(), at.uniform_at(1));
  EXPECT_EQ(rng.normal(), at.normal_at(2));
  EXPECT_EQ(rng.uniform(), at.uniform_at(3));
}

TEST(KeyedRng, IndicesBeyond32BitsAreDistinct) {
  const KeyedRng rng(7, "sample");
  EXPECT_NE(rng.bits_at(5), rng.bits_at(5 + (uint64_t{1} << 32)));
}

TEST(KeyedRng, UniformsFillTheUnitInterval) {
  const KeyedRng rng(3, "uniform");
  constexpr int kDraws = 40000;
  double sum = 0, low = 1, high = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = rng.uniform_at(i);
    sum += u;
    low = std::min(low, u);
    high = std::max(high, u);
  }
  EXPECT_GE(low, 0.0);
  EXPECT_LT(high, 1.0);
  EXPECT_LT(low, 1e-3);
  EXPECT_GT(high, 1 - 1e-3);
  // Five standard errors of the mean: sqrt(1/12/n).
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
}

TEST(KeyedRng, NormalsHaveTheMomentsOfAStandardNormal) {
  const KeyedRng rng(3, "normal");
  constexpr int kDraws = 40000;
  double sum = 0, squares = 0, fourth = 0, neighbours = 0, before = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double z = rng.normal_at(i);
    ASSERT_TRUE(std::isfinite(z));
    sum += z;
    squares += z * z;
    fourth += z * z * z * z;
    neighbours += z * before;
    before = z;
  }
  // Five standard errors: the variances of z, z^2, z^4 and z*z' are 1, 2, 96 and 1.
  EXPECT_NEAR(sum / kDraws, 0.0, 5 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth / kDraws, 3.0, 5 * std::sqrt(96.0 / kDraws));
  EXPECT_NEAR(neighbours / kDraws, 0.0, 5 * std::sqrt(1.0 / kDraws));
}

TEST(KeyedRng, BelowIsInRangeAndEven) {
  KeyedRng rng(11, "below");
  constexpr int kBound = 7, kDraws = 70000;
  std::vector<int> counts(kBound);
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t value = rng.below(kBound);
    ASSERT_LT(value, static_cast<uint64_t>(kBound));
    ++counts[value];
  }
  for (int count : counts) EXPECT_NEAR(count, kDraws / kBound, 5 * std::sqrt(kDraws / kBound));
  EXPECT_EQ(rng.below(1), 0u);
  bool high_half = false;
  for (int i = 0; i < 32; ++i) high_half = high_half || rng.below(~uint64_t{0}) >> 63 != 0;
  EXPECT_TRUE(high_half) << "bounds beyond 32 bits must reach the upper half";
}

}  // namespace
}  // namespace veomni
