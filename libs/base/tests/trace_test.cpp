// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "veomni/base/context.h"

namespace veomni::trace {
namespace {

using testing::IsEmpty;
using testing::SizeIs;
using testing::StrEq;

// A worker of its own per test, so that nothing of another test is seen.
class TraceTest : public testing::Test {
 protected:
  TraceTest() : worker_(++last_worker), scope_({.label = "", .primary = true, .worker = worker_}) {}
  void TearDown() override { ASSERT_FALSE(on()); }

  static inline int last_worker = 1000;
  int worker_;
  ThreadContextScope scope_;
};

TEST_F(TraceTest, RecordsNothingUnlessStarted) {
  {
    const Span span(Category::kOp, "linear");
    EXPECT_FALSE(span.active());
  }
  EXPECT_THAT(take(worker_), IsEmpty());
}

TEST_F(TraceTest, SpansNestAndInnerOnesEndFirst) {
  start();
  {
    const Span outer(Category::kUnit, "layers.0", "forward");
    Span inner(Category::kKernel, "MatMul");
    inner.set_flops(12);
  }
  stop();
  const auto taken = take(worker_);
  ASSERT_THAT(taken, SizeIs(1));
  ASSERT_THAT(taken[0].events, SizeIs(2));
  const Event &inner = taken[0].events[0], &outer = taken[0].events[1];
  EXPECT_THAT(inner.name, StrEq("MatMul"));
  EXPECT_EQ(inner.category, Category::kKernel);
  EXPECT_EQ(inner.flops, 12);
  EXPECT_THAT(outer.name, StrEq("layers.0"));
  EXPECT_THAT(outer.pass, StrEq("forward"));
  EXPECT_LE(outer.begin_ns, inner.begin_ns);
  EXPECT_LE(inner.begin_ns, inner.end_ns);
  EXPECT_LE(inner.end_ns, outer.end_ns);
}

TEST_F(TraceTest, ASpanThatBeganWhileOnIsRecordedAfterStop) {
  start();
  {
    const Span span(Category::kOp, "late");
    stop();
    const Span other(Category::kOp, "too late");
  }
  const auto taken = take(worker_);
  ASSERT_THAT(taken, SizeIs(1));
  ASSERT_THAT(taken[0].events, SizeIs(1));
  EXPECT_THAT(taken[0].events[0].name, StrEq("late"));
}

TEST_F(TraceTest, EveryStartNeedsAStop) {
  start();
  start();
  stop();
  EXPECT_TRUE(on());
  stop();
  EXPECT_FALSE(on());
}

TEST_F(TraceTest, ThreadsHaveRingsOfTheirOwnAndGoToTheirWorker) {
  const int other = ++last_worker;
  start();
  const auto work = [](int worker, const char* name) {
    const ThreadContextScope scope({.label = "", .primary = true, .worker = worker});
    for (int i = 0; i < 1000; ++i) const Span span(Category::kOp, name);
  };
  std::thread a(work, worker_, "a"), b(work, worker_, "b"), c(work, other, "c");
  a.join();
  b.join();
  c.join();
  stop();
  const auto mine = take(worker_), theirs = take(other);
  ASSERT_THAT(mine, SizeIs(2));
  ASSERT_THAT(theirs, SizeIs(1));
  EXPECT_NE(mine[0].thread, mine[1].thread);
  for (const auto* list : {&mine, &theirs}) {
    for (const auto& thread : *list) {
      ASSERT_THAT(thread.events, SizeIs(1000));
      for (const auto& event : thread.events) EXPECT_THAT(event.name, StrEq(thread.events[0].name));
    }
  }
  EXPECT_THAT(take(worker_), IsEmpty());
}

TEST_F(TraceTest, AFullRingCountsWhatItDropsAndTakesAgainOnceEmptied) {
  start();
  constexpr int64_t kTooMany = 37;
  for (size_t i = 0; i < kCapacity + kTooMany; ++i) const Span span(Category::kOp, "op");
  auto taken = take(worker_);
  ASSERT_THAT(taken, SizeIs(1));
  EXPECT_EQ(taken[0].events.size(), kCapacity);
  EXPECT_EQ(taken[0].num_dropped, kTooMany);
  { const Span span(Category::kOp, "after"); }
  stop();
  taken = take(worker_);
  ASSERT_THAT(taken, SizeIs(1));
  ASSERT_THAT(taken[0].events, SizeIs(1));
  EXPECT_THAT(taken[0].events[0].name, StrEq("after"));
  EXPECT_EQ(taken[0].num_dropped, 0);
}

// Whole spans only, each once, in order, while a thread writes and another takes.
TEST_F(TraceTest, TakingWhileAThreadRecordsLosesNothing) {
  constexpr int64_t kSpans = 200'000;
  std::atomic<bool> done{false};
  std::thread writer([&, worker = worker_] {
    const ThreadContextScope scope({.label = "", .primary = true, .worker = worker});
    for (int64_t i = 0; i < kSpans; ++i) record({.begin_ns = i, .end_ns = i, .bytes = -i});
    done = true;
  });
  int64_t next = 0, dropped = 0;
  for (bool last = false; !last;) {
    last = done;
    for (const auto& thread : take(worker_)) {
      dropped += thread.num_dropped;
      for (const auto& event : thread.events) {
        ASSERT_GE(event.begin_ns, next);
        ASSERT_EQ(event.end_ns, event.begin_ns);
        ASSERT_EQ(event.bytes, -event.begin_ns);
        next = event.begin_ns + 1;
      }
    }
  }
  writer.join();
  EXPECT_LE(next, kSpans);
  if (dropped == 0) {
    EXPECT_EQ(next, kSpans);
  }
}

TEST_F(TraceTest, InternedStringsStay) {
  const char* first = intern("layers.0");
  for (int i = 0; i < 1000; ++i) intern("other" + std::to_string(i));
  EXPECT_EQ(intern("layers.0"), first);
  EXPECT_THAT(first, StrEq("layers.0"));
}

}  // namespace
}  // namespace veomni::trace
