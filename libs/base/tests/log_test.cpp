// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "veomni/base/context.h"
#include "veomni/base/error.h"

namespace veomni {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::StrEq;
using testing::ThrowsMessage;

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    before_ =
        log::set_sink([this](log::Level, const std::string& line) { lines_.push_back(line); });
  }
  void TearDown() override {
    log::set_sink(before_);
    log::set_level(log::Level::kInfo);
  }
  std::vector<std::string> lines_;
  log::Sink before_;
};

TEST_F(LogTest, FormatsAndNamesTheLevel) {
  log::info("loaded {} tensors", 3);
  log::warn("skipped line {}", 7);
  log::error("lost {}", "a peer");
  EXPECT_THAT(lines_,
              ElementsAre("loaded 3 tensors", "warning: skipped line 7", "error: lost a peer"));
}

TEST_F(LogTest, DropsWhatIsBelowTheLevel) {
  log::debug("hidden by default");
  log::set_level(log::Level::kDebug);
  log::debug("shown");
  log::set_level(log::Level::kError);
  log::warn("hidden");
  EXPECT_THAT(lines_, ElementsAre("debug: shown"));
}

TEST_F(LogTest, OnlyThePrimaryThreadInformsButEveryRankWarnsUnderItsLabel) {
  ThreadContextScope scope({"[rank 3/8] ", false});
  log::info("once for all");
  EXPECT_THAT(lines_, IsEmpty());
  log::warn("mine");
  EXPECT_THAT(lines_, ElementsAre("warning: [rank 3/8] mine"));
}

TEST_F(LogTest, LinesOfManyThreadsArriveWhole) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 200; ++i) log::info("0123456789");
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(lines_, testing::AllOf(testing::SizeIs(800), testing::Each("0123456789")));
}

TEST(Log, WithoutASinkLinesGoToStandardError) {
  testing::internal::CaptureStderr();
  log::info("to the terminal");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "to the terminal\n");
}

TEST(ThreadContext, IsPerThreadAndRestored) {
  EXPECT_EQ(thread_context().label, "");
  {
    ThreadContextScope outer({"[rank 0/2] ", true});
    {
      ThreadContextScope inner({"[rank 1/2] ", false});
      EXPECT_EQ(thread_context().label, "[rank 1/2] ");
      std::thread([] { EXPECT_TRUE(thread_context().primary); }).join();
    }
    EXPECT_EQ(thread_context().label, "[rank 0/2] ");
  }
  EXPECT_TRUE(thread_context().primary);
}

TEST(Error, ChecksThrowTheirKindUnderTheThreadsLabel) {
  ThreadContextScope scope({"[rank 3/8] ", true});
  EXPECT_THAT([] { VEOMNI_CHECK(1 > 2, "hidden=", 1000, " heads=", 12); },
              ThrowsMessage<Error>(StrEq("[rank 3/8] hidden=1000 heads=12")));
  EXPECT_THAT([] { VEOMNI_CHECK_CONFIG(false, "no such file: ", "x"); },
              ThrowsMessage<ConfigError>(StrEq("[rank 3/8] no such file: x")));
  EXPECT_THROW(VEOMNI_CHECK_CONFIG(false, ""), Error) << "a ConfigError is an Error";
  int evaluated = 0;
  VEOMNI_CHECK(true, ++evaluated);
  EXPECT_EQ(evaluated, 0) << "a message is built only where the check fails";
}

}  // namespace
}  // namespace veomni
