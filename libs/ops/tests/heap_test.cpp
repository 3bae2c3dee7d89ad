// SPDX-License-Identifier: Apache-2.0
#include "memory/heap.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "veomni/base/error.h"
#include "veomni/ops/caching_allocator.h"

namespace veomni::ops {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

long minor_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

TEST(Heap, BlocksAreAlignedWritableAndReadableBeyond) {
  Heap heap({});
  for (size_t bytes : {size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{1000}, kMiB - 1,
                       2 * kMiB, 5 * kMiB + 3}) {
    auto* data = static_cast<char*>(heap.allocate(bytes));
    ASSERT_NE(data, nullptr);
    EXPECT_EQ(reinterpret_cast<size_t>(data) % Heap::kAlign, 0) << bytes;
    std::memset(data, 1, bytes);
    volatile char beyond =
        data[bytes + Heap::kAlign - 1];  // a kernel's tail may load a whole register
    (void)beyond;
    heap.check();
  }
}

TEST(Heap, AFreedBlockComesBackWithoutAPageFault) {
  Heap heap({});
  const size_t bytes = 40 * kMiB;
  void* first = heap.allocate(bytes);
  std::memset(first, 1, bytes);
  void* other = heap.allocate(3 * kMiB);
  heap.free(first);
  const long before = minor_faults();
  void* again = heap.allocate(bytes);
  EXPECT_EQ(again, first);
  std::memset(again, 2, bytes);
  EXPECT_LE(minor_faults() - before, 2);  // 10240 if its pages had gone
  heap.free(other);
}

TEST(Heap, SplitsAndCoalescesInEveryOrder) {
  std::vector<int> order = {0, 1, 2};
  do {
    Heap heap({});
    void* whole = heap.allocate(30 * kMiB);
    void* fence = heap.allocate(64);
    heap.free(whole);
    void* parts[3];
    for (auto& part : parts) part = heap.allocate(9 * kMiB);
    EXPECT_EQ(parts[0], whole);
    for (int i : {1, 2})
      EXPECT_EQ(static_cast<char*>(parts[i]) - static_cast<char*>(parts[i - 1]),
                9 * kMiB + Heap::kAlign);
    const size_t held = heap.stats().held_bytes;
    for (int i : order) {
      heap.free(parts[i]);
      heap.check();
    }
    EXPECT_EQ(heap.allocate(30 * kMiB), whole);  // the three and their remainder are one again
    EXPECT_EQ(heap.stats().held_bytes, held);
    heap.free(fence);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Heap, TakesTheSmallestThatFits) {
  Heap heap({});
  std::vector<void*> holes, fences;
  for (size_t mib : {8, 5, 3, 6}) {
    holes.push_back(heap.allocate(mib * kMiB));
    fences.push_back(heap.allocate(64));
  }
  for (void* hole : holes) heap.free(hole);
  EXPECT_EQ(heap.allocate(4 * kMiB), holes[1]);
  EXPECT_EQ(heap.allocate(3 * kMiB), holes[2]);
  EXPECT_EQ(heap.allocate(6 * kMiB - 100), holes[3]);
  EXPECT_EQ(heap.allocate(7 * kMiB), holes[0]);
  heap.check();
}

TEST(Heap, ReleaseGivesFreePagesBackAndKeepsLiveBytes) {
  Heap heap({});
  auto* low = static_cast<char*>(heap.allocate(3 * kMiB));
  void* middle = heap.allocate(50 * kMiB);
  auto* high = static_cast<char*>(heap.allocate(3 * kMiB));
  std::memset(low, 7, 3 * kMiB);
  std::memset(middle, 8, 50 * kMiB);
  std::memset(high, 9, 3 * kMiB);
  heap.free(middle);
  EXPECT_GE(heap.stats().held_bytes, 56 * kMiB);
  heap.release(30 * kMiB);
  EXPECT_EQ(heap.stats().held_bytes, 30 * kMiB);
  heap.release(0);
  EXPECT_LE(heap.stats().held_bytes, (6 + 4 * 2) * kMiB);  // a page at each end of both
  heap.check();
  for (size_t i = 0; i < 3 * kMiB; i += 4096) ASSERT_TRUE(low[i] == 7 && high[i] == 9);
  // The pages come back as zeros: they really had gone.
  auto* again = static_cast<char*>(heap.allocate(50 * kMiB));
  EXPECT_EQ(again, middle);
  EXPECT_EQ(again[25 * kMiB], 0);
}

TEST(Heap, FullIsNullAndOneFreeMakesRoom) {
  Heap heap({.reserve_bytes = 16 * kMiB});
  EXPECT_EQ(heap.allocate(17 * kMiB), nullptr);
  EXPECT_EQ(heap.allocate(size_t{1} << 60), nullptr);
  void* most = heap.allocate(15 * kMiB);
  ASSERT_NE(most, nullptr);
  EXPECT_EQ(heap.allocate(kMiB), nullptr);
  heap.free(most);
  EXPECT_EQ(heap.allocate(8 * kMiB), most);
  heap.check();
}

TEST(Heap, NoticesWhatIsNotALiveBlock) {
  Heap heap({});
  void* block = heap.allocate(100);
  void* other = heap.allocate(100);
  char outside[64];
  EXPECT_THROW(heap.free(outside), Error);
  EXPECT_EQ(heap.free(block), 100);
  EXPECT_THROW(heap.free(block), Error);
  heap.free(other);
  EXPECT_THROW(heap.free(other), Error);  // by now the middle of a larger free block
  heap.check();
}

/// Sizes and lifetimes as a recipe for a trace; a block is filled with its number and compared when freed.
struct Trace {
  const char* name;
  double min_log2, max_log2;  ///< of a size, uniform in between
  int live;                   ///< blocks alive at a time, about
  bool stack;                 ///< the newest is freed first, as by a backward pass
  size_t spare_bytes;
};
void PrintTo(const Trace& trace, std::ostream* out) { *out << trace.name; }

class Traces : public testing::TestWithParam<Trace> {};

TEST_P(Traces, BlocksNeverOverlapAndHeldBytesAreBounded) {
  const Trace trace = GetParam();
  for (uint32_t seed : {1, 2, 3}) {
    const HeapOptions options{size_t{4} << 30, kSlack, trace.spare_bytes};
    Heap heap(options);
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> log2_size(trace.min_log2, trace.max_log2);
    struct Shadow {
      size_t bytes;
      uint32_t mark;
    };
    std::map<char*, Shadow> shadow;
    std::vector<char*> order;
    size_t live = 0, peak = 0;
    for (uint32_t step = 0; step < 6000; ++step) {
      const bool full = shadow.size() >= random() % (2 * trace.live);
      if (!full) {
        const auto bytes = static_cast<size_t>(std::exp2(log2_size(random)));
        auto* data = static_cast<char*>(heap.allocate(bytes));
        ASSERT_NE(data, nullptr);
        auto above = shadow.lower_bound(data);
        ASSERT_TRUE(above == shadow.end() || data + bytes <= above->first);
        ASSERT_TRUE(above == shadow.begin() ||
                    std::prev(above)->first + std::prev(above)->second.bytes <= data);
        // A mark in each page, the first and the last bytes.
        const char mark = static_cast<char>(step);
        for (size_t i = 0; i < bytes; i += 4096) data[i] = mark;
        data[bytes - 1] = mark;
        shadow[data] = {bytes, step};
        order.push_back(data);
        live += bytes;
        peak = std::max(peak, live);
      } else if (!order.empty()) {
        const size_t index = trace.stack ? order.size() - 1 : random() % order.size();
        char* data = order[index];
        order.erase(order.begin() + static_cast<std::ptrdiff_t>(index));
        const auto [bytes, number] = shadow.at(data);
        const char mark = static_cast<char>(number);
        for (size_t i = 0; i < bytes; i += 4096) ASSERT_EQ(data[i], mark);
        ASSERT_EQ(data[bytes - 1], mark);
        ASSERT_EQ(heap.free(data), bytes);
        shadow.erase(data);
        live -= bytes;
      }
      const HeapStats stats = heap.stats();
      ASSERT_EQ(stats.live_bytes, live);
      ASSERT_EQ(stats.peak_bytes, peak);
      ASSERT_LE(
          static_cast<double>(stats.held_bytes),
          options.slack * static_cast<double>(peak) + static_cast<double>(options.spare_bytes));
      if (step % 100 == 0) heap.check();
    }
    const HeapStats end = heap.stats();
    RecordProperty("held_over_peak_percent_seed_" + std::to_string(seed),
                   static_cast<int>(100 * end.held_bytes / end.peak_bytes));
    for (char* data : order) heap.free(data);
    heap.check();
    EXPECT_EQ(heap.stats().live_bytes, 0);
    heap.release(0);
    EXPECT_LE(heap.stats().held_bytes, 2 * Heap::kHugePage);  // the first header and the sentinel
  }
}

INSTANTIATE_TEST_SUITE_P(Heap, Traces,
                         testing::Values(Trace{"small", 5, 17, 400, false, 8 * kMiB},
                                         Trace{"large", 18, 25, 40, false, 64 * kMiB},
                                         Trace{"large_as_a_stack", 18, 25, 40, true, 64 * kMiB},
                                         Trace{"mixed", 6, 24, 100, false, 64 * kMiB}),
                         [](const auto& info) { return info.param.name; });

// Every block a little larger than every hole, with something that stays in between: the worst there is.
TEST(Heap, HolesThatFitNothingAreGivenBack) {
  constexpr size_t kSpare = 8 * kMiB;
  Heap bounded({size_t{1} << 30, kSlack, kSpare}), unbounded({size_t{1} << 30, 100, kSpare});
  for (size_t mib = 4; mib <= 60; mib += 4) {
    for (Heap* heap : {&bounded, &unbounded}) {
      auto* block = static_cast<char*>(heap->allocate(mib * kMiB));
      for (size_t i = 0; i < mib * kMiB; i += 4096) block[i] = 1;
      heap->allocate(64);
      heap->free(block);
      heap->check();
    }
    EXPECT_LE(bounded.stats().held_bytes, kSlack * bounded.stats().peak_bytes + kSpare);
  }
  EXPECT_GE(unbounded.stats().held_bytes, 480 * kMiB);
}

TEST(Heap, ThreadsShareIt) {
  Heap heap({});
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int id = 0; id < 4; ++id) {
    threads.emplace_back([&, id] {
      std::mt19937 random(id);
      std::vector<std::pair<unsigned char*, size_t>> mine;
      for (int i = 0; i < 20000; ++i) {
        if (mine.size() < 20) {
          const size_t bytes = 1 + random() % 5000;
          auto* data = static_cast<unsigned char*>(heap.allocate(bytes));
          std::memset(data, id + 1, bytes);
          mine.emplace_back(data, bytes);
        } else {
          std::swap(mine[random() % mine.size()], mine.back());
          const auto [data, bytes] = mine.back();
          for (size_t k = 0; k < bytes; ++k) wrong += data[k] != id + 1;
          heap.free(data);
          mine.pop_back();
        }
      }
      for (const auto& [data, bytes] : mine) heap.free(data);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(heap.stats().live_bytes, 0);
  heap.check();
}

}  // namespace
}  // namespace veomni::ops
