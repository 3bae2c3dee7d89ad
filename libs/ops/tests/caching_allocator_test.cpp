// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/caching_allocator.h"

#include <ATen/ATen.h>
#include <c10/core/CPUAllocator.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "veomni/base/error.h"
#include "veomni/ops/allocation_count.h"

namespace veomni::ops {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A test that installs it does so in a process of its own: an AllocationCounter of another test may have wrapped the
// system's allocator in this one. Runs `body`, which returns whether all went well.
template <typename Body> void in_a_new_process([[maybe_unused]] Body body) {
#if defined(__SANITIZE_ADDRESS__)  // which knows the ends of its own allocator's blocks only
  set_cpu_allocator("caching");
  EXPECT_FALSE(memory_stats()) << "tensors left AddressSanitizer's allocator";
#else
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        bool good = false;
        try {
          good = body();
        } catch (const std::exception& error) {
          fprintf(stderr, "%s\n", error.what());
        }
        _exit(good ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
#endif
}

TEST(CachingAllocator, RawBlocksAndCopies) {
  c10::Allocator& allocator = caching_allocator();
  void* raw = allocator.raw_allocate(1000);  // asserts that the context is the address
  std::memset(raw, 5, 1000);
  c10::DataPtr copy = allocator.clone(raw, 1000);
  EXPECT_EQ(std::memcmp(copy.get(), raw, 1000), 0);
  EXPECT_EQ(copy.get_deleter(), allocator.raw_deleter());
  allocator.raw_deallocate(raw);
  const c10::DataPtr nothing = allocator.allocate(0);
  EXPECT_EQ(nothing.get(), nullptr);
  EXPECT_TRUE(nothing.device().is_cpu());
}

TEST(CachingAllocator, OutOfMemorySaysWhatWasAskedLiveAndHeld) {
  const c10::DataPtr some = caching_allocator().allocate(3 << 20);
  try {
    caching_allocator().allocate(size_t{1} << 50);
    FAIL() << "a PiB";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("out of memory: a tensor asks for 1073741824.0 MiB"),
                                    HasSubstr("tensors have 3.0 MiB"), HasSubstr("are held"),
                                    HasSubstr("train.micro_batch_tokens")));
  }
}

TEST(CachingAllocator, UnknownNameIsRefused) {
  EXPECT_THROW(set_cpu_allocator("jemalloc"), ConfigError);
}

TEST(CachingAllocator, TensorsOfEitherAllocatorOutliveTheSwitch) {
  in_a_new_process([] {
    if (memory_stats()) return false;
    at::Tensor older = at::full({1000}, 2.0f);
    set_cpu_allocator("caching");
    at::Tensor cached = at::full({1 << 20}, 3.0f), small = at::ones({3});
    if (memory_stats()->live_bytes != (4 << 20) + 12) return false;
    set_cpu_allocator("system");
    at::Tensor newer = at::full({1000}, 4.0f);
    older.reset();
    cached.resize_({2 << 20});  // grows by the allocator it was made with
    if (cached[5].item<float>() != 3 || memory_stats()->live_bytes != (8 << 20) + 12) return false;
    cached.reset();
    small.reset();
    const MemoryStats end = *memory_stats();
    return end.live_bytes == 0 && end.peak_bytes == (12 << 20) + 12 && newer[7].item<float>() == 4;
  });
}

TEST(CachingAllocator, CountersWrapItButNotTheOtherWay) {
  in_a_new_process([] {
    set_cpu_allocator("caching");
    at::Tensor a;
    {
      const AllocationCounter counter;
      a = at::empty({1000}, at::kByte);
      if (counter.stats(c10::kCPU).live_bytes != 1000 || memory_stats()->live_bytes != 1000)
        return false;
      void* raw = c10::GetCPUAllocator()->raw_allocate(50);
      if (memory_stats()->live_bytes != 1050) return false;
      c10::GetCPUAllocator()->raw_deallocate(raw);
    }
    a.reset();
    if (memory_stats()->live_bytes != 0) return false;
    try {
      set_cpu_allocator("system");
    } catch (const Error& error) {
      return std::string(error.what()).find("wrapped already") != std::string::npos;
    }
    return false;
  });
}

TEST(CachingAllocator, EmptyCacheGivesFreePagesBack) {
  in_a_new_process([] {
    set_cpu_allocator("caching");
    at::Tensor kept = at::ones({1000});
    at::zeros({32 << 20}).reset();
    const int64_t before = memory_stats()->held_bytes;
    empty_cache();
    const int64_t after = memory_stats()->held_bytes;
    return before >= (128 << 20) && after <= (10 << 20) && kept.sum().item<float>() == 1000;
  });
}

TEST(CachingAllocator, ATensorMayDieOnAnotherThread) {
  in_a_new_process([] {
    set_cpu_allocator("caching");
    for (int i = 0; i < 50; ++i) {
      at::Tensor here = at::ones({300000});
      std::thread([moved = std::move(here)]() mutable { moved.reset(); }).join();
    }
    return memory_stats()->live_bytes == 0;
  });
}

}  // namespace
}  // namespace veomni::ops
