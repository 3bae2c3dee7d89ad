// SPDX-License-Identifier: Apache-2.0
#include "veomni/data/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "veomni/base/error.h"
#include "veomni/base/rng.h"

namespace veomni::data {

namespace {
using testing::ElementsAre;

Sample sample(int64_t tokens, int64_t record = 0) {
  Sample made;
  made.ids.assign(tokens, 1);
  made.labels.assign(tokens, 1);
  made.ref.record = record;
  return made;
}

std::vector<std::vector<int64_t>> pack(const std::vector<int64_t>& sizes, int64_t budget,
                                       int64_t open_bins) {
  Packer packer(budget, open_bins);
  std::vector<std::vector<int64_t>> bins;
  const auto drain = [&] {
    while (auto bin = packer.take()) {
      auto& out = bins.emplace_back();
      for (const Sample& s : bin->samples) out.push_back(s.ref.record);
    }
  };
  for (size_t i = 0; i < sizes.size(); ++i) {
    packer.put(sample(sizes[i], static_cast<int64_t>(i)));
    drain();
  }
  packer.flush();
  drain();
  return bins;
}
}  // namespace

TEST(Packer, FirstFitInTheOldestOpenBin) {
  // 0: 6 of 10; 1: 7; 2: 4 fills the first; 3: 3 fills the second; 4 opens a third
  EXPECT_THAT(pack({6, 7, 4, 3, 5}, 10, 2),
              ElementsAre(ElementsAre(0, 2), ElementsAre(1, 3), ElementsAre(4)));
  // With no room and two bins open the oldest leaves.
  EXPECT_THAT(pack({6, 7, 8, 1}, 10, 2),
              ElementsAre(ElementsAre(0), ElementsAre(1, 3), ElementsAre(2)));
}

TEST(Packer, OneBinKeepsTheOrder) {
  EXPECT_THAT(pack({6, 5, 4, 1, 10, 2}, 10, 1),
              ElementsAre(ElementsAre(0), ElementsAre(1, 2, 3), ElementsAre(4), ElementsAre(5)));
}

TEST(Packer, KeepsEverySampleWithinTheBudget) {
  KeyedRng rng(3, "sizes");
  std::vector<int64_t> sizes;
  for (int i = 0; i < 2000; ++i) sizes.push_back(1 + static_cast<int64_t>(rng.below(100)));
  const auto bins = pack(sizes, 128, 8);
  std::vector<int64_t> seen;
  for (const auto& bin : bins) {
    int64_t tokens = 0;
    for (const int64_t record : bin) tokens += sizes[record];
    EXPECT_LE(tokens, 128);
    EXPECT_GE(tokens, 1);
    seen.insert(seen.end(), bin.begin(), bin.end());
  }
  std::sort(seen.begin(), seen.end());
  ASSERT_EQ(seen.size(), sizes.size());
  for (int64_t i = 0; i < 2000; ++i) ASSERT_EQ(seen[i], i);
  EXPECT_LT(static_cast<double>(bins.size()),
            0.9 * static_cast<double>(pack(sizes, 128, 1).size()));  // what looking ahead is for
}

TEST(Packer, ContinuesFromItsState) {
  Packer once(10, 2), again(10, 2);
  for (const int64_t size : {6, 7, 8}) once.put(sample(size, size));
  again.set(once.open(), once.ready());
  for (Packer* packer : {&once, &again}) {
    packer->put(sample(3, 100));
    packer->flush();
  }
  while (auto left = once.take()) {
    const auto right = again.take();
    ASSERT_TRUE(right);
    ASSERT_EQ(left->samples.size(), right->samples.size());
    for (size_t i = 0; i < left->samples.size(); ++i)
      EXPECT_EQ(left->samples[i].ref, right->samples[i].ref);
  }
  EXPECT_FALSE(again.take());
}

TEST(Packer, RefusesWhatCannotFit) {
  Packer packer(10, 2);
  EXPECT_THROW(packer.put(sample(11)), Error);
  EXPECT_THROW(packer.put(sample(0)), Error);
  EXPECT_THROW(Packer(0, 1), ConfigError);
  EXPECT_THROW(Packer(1, 0), ConfigError);
}

}  // namespace veomni::data
