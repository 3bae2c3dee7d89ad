// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <sstream>
#include <thread>

#include "report/status_line.h"
#include "veomni/base/log.h"

namespace veomni {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

StepMetrics step(int64_t n) {
  StepMetrics m;
  m.step = n;
  m.loss = 3.2141;
  m.lr = 2.9e-4;
  m.tokens_per_second = 12345;
  return m;
}

Status status(int64_t n = 252) { return {step(n), 600, 130, 201}; }

TEST(StepRate, ForecastsASteadyPaceExactlyFromTheFirstStepOn) {
  StepRate rate(100);
  EXPECT_FALSE(rate.seconds_for(5).has_value());
  for (int64_t n = 101; n <= 130; ++n) {
    rate.update(n, 2.0 * static_cast<double>(n - 100));
    EXPECT_NEAR(*rate.seconds_for(10), 20.0, 1e-9) << n;
  }
  EXPECT_EQ(*rate.seconds_for(0), 0.0);
}

TEST(StepRate, FollowsAChangeOfPaceButNotASingleHiccup) {
  StepRate rate(0);
  double now = 0;
  for (int64_t n = 1; n <= 100; ++n) rate.update(n, now += 1);
  rate.update(101, now += 3);
  EXPECT_LT(*rate.seconds_for(1), 1.2);
  for (int64_t n = 102; n <= 200; ++n) rate.update(n, now += 2);
  EXPECT_NEAR(*rate.seconds_for(1), 2.0, 0.05);
}

TEST(StepRate, UpdatesThatSkipStepsCountPerStep) {
  StepRate rate(0);
  rate.update(10, 5);
  rate.update(10, 6);  // told twice
  EXPECT_NEAR(*rate.seconds_for(2), 1.0, 1e-9);
}

TEST(ClockText, IsHoursMinutesSeconds) {
  EXPECT_EQ(clock_text(0), "00:00:00");
  EXPECT_EQ(clock_text(59.6), "00:01:00");
  EXPECT_EQ(clock_text(3723), "01:02:03");
  EXPECT_EQ(clock_text(360000), "100:00:00");
  EXPECT_EQ(clock_text(std::nan("")), "--:--:--");
}

TEST(ShortNumber, KeepsThreeDigits) {
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(987), "987");
  EXPECT_EQ(short_number(999.7), "1.00k");
  EXPECT_EQ(short_number(12345), "12.3k");
  EXPECT_EQ(short_number(123456), "123k");
  EXPECT_EQ(short_number(999960), "1.00M");
  EXPECT_EQ(short_number(4.56e6), "4.56M");
  EXPECT_EQ(short_number(-1.2e10), "-12.0G");
  EXPECT_EQ(short_number(INFINITY), "-");
}

TEST(StatusLine, ShowsEverythingWhereThereIsRoom) {
  EXPECT_EQ(status_line(status(), 120),
            "━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   42%  252/600  loss 3.214  lr 2.9e-04  12.3k tok/s  "
            "ETA 00:03:21  00:02:10");
}

TEST(StatusLine, NeverExceedsTheWidthAndKeepsWhatMattersMost) {
  for (int columns = 0; columns <= 130; ++columns) {
    const std::string line = status_line(status(), columns);
    EXPECT_LE(count_columns(line), columns);
    if (columns >= 7) {
      EXPECT_THAT(line, HasSubstr("252/600")) << columns;
    }
    if (columns >= 80) {
      EXPECT_THAT(line, AllOf(HasSubstr("━"), HasSubstr("ETA"), HasSubstr("lr"))) << columns;
    }
  }
}

TEST(StatusLine, UnknownNumbersAreLeftOutAndADivergedLossShows) {
  Status s = status();
  s.metrics.lr = s.metrics.tokens_per_second = StepMetrics::kUnknown;
  s.metrics.loss = std::nan("");
  s.eta_seconds.reset();
  EXPECT_THAT(status_line(s, 120), AllOf(HasSubstr("loss nan"), Not(HasSubstr("lr")),
                                         Not(HasSubstr("tok/s")), Not(HasSubstr("ETA"))));
  s.total_steps = 0;
  EXPECT_EQ(status_line(s, 120), "252  loss nan  00:02:10");
}

TEST(StatusLine, MoreStepsThanPlannedStayAtAHundredPercent) {
  EXPECT_THAT(status_line(status(700), 120), AllOf(HasSubstr("100%"), Not(HasSubstr("╌"))));
}

TEST(CutColumns, NeverSplitsACharacter) {
  const std::string text = "a━é漢b";
  EXPECT_EQ(cut_columns(text, 0), "");
  EXPECT_EQ(cut_columns(text, 2), "a━");
  EXPECT_EQ(cut_columns(text, 4), "a━é漢");
  EXPECT_EQ(cut_columns(text, 9), text);
  EXPECT_EQ(count_columns(text), 5);
}

std::string drain(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = ::read(fd, buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  return text;
}

/// What a person sees after `text`: carriage return, newline and "clear to the end of the line" applied.
std::vector<std::string> screen(const std::string& text) {
  std::vector<std::string> rows(1);
  size_t at = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      at = 0;
    } else if (text[i] == '\n') {
      rows.emplace_back();
      at = 0;
    } else if (text.compare(i, 3, "\x1b[K") == 0) {
      rows.back().resize(at);
      i += 2;
    } else {
      rows.back().resize(std::max(rows.back().size(), at + 1));
      rows.back()[at++] = text[i];
    }
  }
  return rows;
}

class TerminalTest : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TERM", "xterm", 1);
    winsize size{};
    size.ws_col = 72;
    size.ws_row = 24;
    ASSERT_EQ(::openpty(&master_, &slave_, nullptr, nullptr, &size), 0);
  }
  void TearDown() override {
    ::close(master_);
    ::close(slave_);
  }
  int master_ = -1, slave_ = -1;
};

TEST_F(TerminalTest, OneLineOverwritesItselfAndEndsOnAFreshOne) {
  {
    Progress progress({.total_steps = 50, .fd = slave_});
    for (int64_t n = 1; n <= 50; ++n) progress.update(step(n));
  }
  const std::string text = drain(master_);
  const auto rows = screen(text);
  EXPECT_THAT(
      rows, ElementsAre(AllOf(HasSubstr("100%"), HasSubstr("50/50"), HasSubstr("loss 3.214")), ""));
  EXPECT_LT(std::count(text.begin(), text.end(), '\r'), 10)
      << "fifty quick steps must not be fifty redraws";
}

TEST_F(TerminalTest, LinesFitTheWidthAndFollowAResize) {
  Progress progress({.total_steps = 50, .fd = slave_});
  progress.update(step(1));
  EXPECT_EQ(count_columns(screen(drain(master_)).back()), 71) << "all but the last column";
  winsize size{};
  size.ws_col = 30;
  ::ioctl(slave_, TIOCSWINSZ, &size);
  progress.update(step(50));
  EXPECT_LE(count_columns(screen(drain(master_)).back()), 29);
}

TEST_F(TerminalTest, LogLinesGoAboveTheLineAndDoNotTearIt) {
  {
    Progress progress({.total_steps = 50, .fd = slave_});
    log::info("before the first step");
    progress.update(step(1));
    log::info("saved a checkpoint");
    log::warn("skipped a record");
    progress.update(step(50));
  }
  EXPECT_THAT(screen(drain(master_)),
              ElementsAre("before the first step", "saved a checkpoint",
                          "warning: skipped a record", HasSubstr("50/50"), ""));
}

TEST_F(TerminalTest, TheLogGetsItsSinkBack) {
  std::vector<std::string> lines;
  const auto original =
      log::set_sink([&](log::Level, const std::string& line) { lines.push_back(line); });
  {
    Progress progress({.total_steps = 2, .fd = slave_});
    progress.update(step(1));
    log::info("during");
    progress.finish();
    log::info("after");
    progress.finish();
  }
  log::set_sink(original);
  EXPECT_THAT(lines, ElementsAre("during", "after")) << "the sink before keeps every line";
  EXPECT_THAT(screen(drain(master_)), ElementsAre(HasSubstr("1/2"), ""));
}

TEST_F(TerminalTest, ThreadsMayLogWhileStepsGoOn) {
  {
    Progress progress({.total_steps = 400, .fd = slave_});
    std::thread reader([&] {
      for (int i = 0; i < 100; ++i) log::info("0123456789");
    });
    for (int64_t n = 1; n <= 20; ++n) progress.update(step(n));
    reader.join();
  }
  auto rows = screen(drain(master_));
  ASSERT_THAT(rows, SizeIs(102));
  rows.resize(100);
  EXPECT_THAT(rows, Each("0123456789"));
}

TEST_F(TerminalTest, WithoutAStepNothingIsDrawn) {
  { Progress progress({.total_steps = 5, .fd = slave_}); }
  EXPECT_EQ(drain(master_), "");
}

TEST_F(TerminalTest, ADumbTerminalGetsPlainLines) {
  ::setenv("TERM", "dumb", 1);
  {
    Progress progress({.total_steps = 5, .fd = slave_});
    progress.update(step(1));
  }
  EXPECT_THAT(drain(master_), AllOf(StartsWith("step 1/5 (20%)"), Not(HasSubstr("\x1b"))));
}

class PipeTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::pipe(ends_), 0); }
  void TearDown() override {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  std::vector<std::string> lines() {
    std::istringstream text(drain(ends_[0]));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }
  int ends_[2] = {};
};

TEST_F(PipeTest, PlainLinesEverySoManyStepsWithTheFirstAndTheLast) {
  {
    Progress progress({.total_steps = 25, .fd = ends_[1], .every_seconds = 0, .every_steps = 10});
    for (int64_t n = 1; n <= 25; ++n) progress.update(step(n));
  }
  EXPECT_THAT(
      lines(),
      ElementsAre(StartsWith("step 1/25 (4%)"), StartsWith("step 11/25"), StartsWith("step 21/25"),
                  MatchesRegex("step 25/25 \\(100%\\)  loss 3.214  lr 2.90e-04  12.3k tok/s  "
                               "ETA 00:00:00  elapsed 00:00:0.")));
}

TEST_F(PipeTest, PlainLinesEverySoManySeconds) {
  {
    Progress progress({.total_steps = 25, .fd = ends_[1], .every_seconds = 0.05});
    progress.update(step(1));
    progress.update(step(2));
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    progress.update(step(3));
  }
  EXPECT_THAT(lines(), ElementsAre(StartsWith("step 1/"), StartsWith("step 3/")));
}

TEST_F(PipeTest, ARunThatStopsEarlyShowsItsLastStep) {
  {
    Progress progress({.total_steps = 25, .fd = ends_[1]});
    for (int64_t n = 1; n <= 4; ++n) progress.update(step(n));
  }
  EXPECT_THAT(lines(), ElementsAre(StartsWith("step 1/25"), StartsWith("step 4/25")));
}

TEST_F(PipeTest, TheLogIsLeftAlone) {
  Progress progress({.total_steps = 25, .fd = ends_[1]});
  progress.update(step(1));
  testing::internal::CaptureStderr();
  log::info("to standard error");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "to standard error\n");
  EXPECT_THAT(lines(), SizeIs(1));
}

TEST(Progress, AClosedDescriptorIsNoError) {
  Progress progress({.total_steps = 2, .fd = -1});
  progress.update(step(1));
  progress.finish();
}

}  // namespace
}  // namespace veomni
