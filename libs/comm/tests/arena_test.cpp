// SPDX-License-Identifier: Apache-2.0
#include "shm/arena.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <unistd.h>

#include <random>

namespace veomni::shm {
namespace {

using ::testing::HasSubstr;

TEST(Places, AreDisjointAlignedAndUsedAgain) {
  constexpr int64_t kBytes = 1 << 20;
  Places places(kBytes);
  std::map<int64_t, int64_t> live;
  std::mt19937 random(7);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 5 < 3) {
      const int64_t bytes = 1 + random() % (i % 7 ? 3000 : 60000);
      const int64_t at = places.take(bytes);
      if (at < 0) {
        ++refused;
        continue;
      }
      ASSERT_EQ(at % 64, 0);
      ASSERT_LE(at + bytes + 64, kBytes);
      const auto next = live.lower_bound(at);
      ASSERT_TRUE(next == live.end() || at + bytes + 64 <= next->first);
      ASSERT_TRUE(next == live.begin() || std::prev(next)->first + std::prev(next)->second <= at);
      live[at] = bytes;
    } else if (!live.empty()) {
      const auto gone = std::next(live.begin(), random() % live.size());
      places.give(gone->first);
      live.erase(gone);
    }
  }
  EXPECT_GT(refused, 0) << "it has been full";
  for (const auto& [at, bytes] : live) places.give(at);
  EXPECT_EQ(places.take(kBytes - 64), 0) << "neighbours grow together again";
}

TEST(Arena, ReadersSeeWhatIsWritten) {
  std::string why;
  const auto arena = Arena::make(&why);
  ASSERT_TRUE(arena) << why;
  ArenaCard card{};
  arena->show(card);
  const auto view = ArenaView::open(::getpid(), card, &why);
  ASSERT_TRUE(view) << why;
  auto memory = arena->allocate(100 << 20);  // more than a container's /dev/shm
  auto* bytes = static_cast<char*>(memory.get());
  for (int64_t at : {int64_t{0}, int64_t{50} << 20, (int64_t{100} << 20) - 1}) {
    bytes[at] = 42;
    EXPECT_EQ(view->data()[arena->offset_of(bytes) + at], 42);
  }
  int elsewhere = 0;
  EXPECT_EQ(arena->offset_of(&elsewhere), -1);
  card.inode += 1;
  EXPECT_FALSE(ArenaView::open(::getpid(), card, &why));
  EXPECT_THAT(why, HasSubstr("another file"));
}

TEST(Arena, LivesAsLongAsItsMemory) {
  std::string why;
  auto arena = Arena::make(&why);
  const std::weak_ptr<Arena> observer = arena;
  auto memory = arena->allocate(1000), none = arena->allocate(0);
  EXPECT_EQ(none.get(), nullptr);
  arena.reset();
  static_cast<char*>(memory.get())[999] = 1;
  memory.clear();
  EXPECT_FALSE(observer.expired()) << "a tensor without memory may ask for some";
  none.clear();
  EXPECT_TRUE(observer.expired());
}

}  // namespace
}  // namespace veomni::shm
