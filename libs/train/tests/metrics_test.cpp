// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "veomni/base/error.h"

namespace veomni {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::ThrowsMessage;

class MetricsTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = testing::TempDir() + "veomni_metrics_" + std::to_string(::getpid());
    std::filesystem::remove_all(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string file() const { return metrics_file(dir_); }
  std::string text() const {
    std::ostringstream out;
    out << std::ifstream(file()).rdbuf();
    return out.str();
  }
  void append_text(const std::string& tail) const { std::ofstream(file(), std::ios::app) << tail; }
  std::vector<int64_t> steps() const {
    std::vector<int64_t> steps;
    for (const auto& line : read_metrics(file())) steps.push_back(line.step);
    return steps;
  }
  std::string dir_;
};

StepMetrics step(int64_t n) {
  StepMetrics m;
  m.step = n;
  m.loss = 1.0 / static_cast<double>(n);
  m.grad_norm = 0.1 + 0.2;
  m.lr = 3e-4;
  m.tokens = 4096 * n;
  m.tokens_per_second = 1234.5;
  m.step_ms = 81.25;
  m.peak_rss_mib = 512;
  return m;
}

TEST_F(MetricsTest, ALineHasTheAgreedKeysInOrder) {
  auto m = step(2);
  m.more = {{"loss/wiki", 2.5}, {"eval/loss", 3}};
  MetricsWriter(dir_).write(m);
  EXPECT_EQ(text(),
            R"({"step":2,"loss":0.5,"grad_norm":0.30000000000000004,"lr":0.0003,"tokens":8192,)"
            R"("tokens_per_second":1234.5,"step_ms":81.25,"mfu":null,"peak_rss_mib":512.0,)"
            R"("eval/loss":3.0,"loss/wiki":2.5})"
            "\n");
}

TEST_F(MetricsTest, WhatIsWrittenReadsBackToTheBit) {
  auto m = step(3);
  m.mfu = 0.41;
  m.more = {{"eval/loss", 1e-300}};
  MetricsWriter writer(dir_);
  writer.write(m);
  const auto all = read_metrics(file());  // while the writer is open: lines are flushed one by one
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].step, 3);
  EXPECT_EQ(all[0].loss, m.loss);
  EXPECT_EQ(all[0].grad_norm, m.grad_norm);
  EXPECT_EQ(all[0].tokens, m.tokens);
  EXPECT_EQ(all[0].mfu, 0.41);
  EXPECT_THAT(all[0].more, ElementsAre(Pair("eval/loss", 1e-300)));
}

TEST_F(MetricsTest, NotFiniteIsNullAndReadsAsNan) {
  auto m = step(1);
  m.loss = std::nan("");
  m.grad_norm = INFINITY;
  m.more = {{"eval/loss", -INFINITY}};
  MetricsWriter(dir_).write(m);
  EXPECT_THAT(text(), AllOf(HasSubstr(R"("loss":null,"grad_norm":null)"),
                            HasSubstr(R"("eval/loss":null)")));
  const auto all = read_metrics(file());
  EXPECT_TRUE(std::isnan(all.at(0).loss));
  EXPECT_TRUE(std::isnan(all.at(0).more.at("eval/loss")));
}

TEST_F(MetricsTest, ResumeCutsTheTailOfARunThatDied) {
  {
    MetricsWriter writer(dir_);
    for (int n = 1; n <= 5; ++n) writer.write(step(n));
  }
  append_text(R"({"step":6,"loss":0.)");
  {
    MetricsWriter writer(dir_, 3);
    EXPECT_THAT(steps(), ElementsAre(1, 2, 3));
    writer.write(step(4));
  }
  EXPECT_THAT(steps(), ElementsAre(1, 2, 3, 4));
}

TEST_F(MetricsTest, ResumeAfterTheLastLineDropsOnlyTheTornOne) {
  MetricsWriter(dir_).write(step(1));
  append_text(R"({"step":2)");
  MetricsWriter writer(dir_, 10);
  writer.write(step(11));
  EXPECT_THAT(steps(), ElementsAre(1, 11));
}

TEST_F(MetricsTest, ResumeWithoutAFileStartsOne) {
  MetricsWriter(dir_, 7).write(step(8));
  EXPECT_THAT(steps(), ElementsAre(8));
}

TEST_F(MetricsTest, AFreshRunStartsEmpty) {
  MetricsWriter(dir_).write(step(1));
  MetricsWriter writer(dir_);
  EXPECT_THAT(steps(), ElementsAre());
}

TEST_F(MetricsTest, TheReaderToleratesATornLastLineOnly) {
  {
    MetricsWriter writer(dir_);
    writer.write(step(1));
    writer.write(step(2));
  }
  const std::string whole = text();
  for (size_t cut = whole.find('\n') + 1; cut < whole.size(); ++cut) {
    std::ofstream(file(), std::ios::trunc) << whole.substr(0, cut);
    EXPECT_THAT(steps(), ElementsAre(1)) << cut;
  }
  std::ofstream(file(), std::ios::trunc) << whole << std::string(20, '\0') << '\n';
  EXPECT_THAT(steps(), ElementsAre(1, 2)) << "blocks that a power cut left empty";

  std::ofstream(file(), std::ios::trunc) << whole << "{\"step\":3\n" << whole;
  EXPECT_THAT([&] { read_metrics(file()); },
              ThrowsMessage<Error>(HasSubstr(file() + ":3: not a line of metrics")));
  EXPECT_THAT([&] { MetricsWriter(dir_, 9); }, ThrowsMessage<Error>(HasSubstr(file() + ":3")));
}

TEST_F(MetricsTest, LinesOfAnotherKindAreErrors) {
  MetricsWriter(dir_).write(step(1));
  const std::string good = text();
  for (const char* bad : {"[1]", "3", "{}", R"({"step":"x"})", "", "\xff"}) {
    std::ofstream(file(), std::ios::trunc) << bad << "\n" << good;
    EXPECT_THAT([&] { read_metrics(file()); }, ThrowsMessage<Error>(HasSubstr(file() + ":1:")))
        << bad;
  }
  EXPECT_THAT([&] { read_metrics(dir_ + "/none"); },
              ThrowsMessage<Error>(HasSubstr(dir_ + "/none")));
}

TEST_F(MetricsTest, AFullDiskNamesTheFile) {
  std::filesystem::create_directories(dir_);
  std::filesystem::create_symlink("/dev/full", file());
  MetricsWriter writer(dir_);
  EXPECT_THAT([&] { writer.write(step(1)); },
              ThrowsMessage<Error>(AllOf(HasSubstr(file()), HasSubstr("No space left"))));
}

TEST_F(MetricsTest, ADirectoryThatCannotBeMadeIsNamed) {
  std::ofstream(dir_) << "a file in the way";
  EXPECT_THAT([&] { MetricsWriter(dir_ + "/run"); },
              ThrowsMessage<Error>(HasSubstr(dir_ + "/run")));
}

TEST_F(MetricsTest, AMoreKeyMustNotHideAColumn) {
  auto m = step(1);
  m.more = {{"loss", 1}};
  MetricsWriter writer(dir_);
  EXPECT_THAT([&] { writer.write(m); }, ThrowsMessage<Error>(HasSubstr("'loss'")));
}

}  // namespace
}  // namespace veomni
