// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "profile/profile_table.h"
#include "profile/profiler.h"
#include "profile/trace_file.h"
#include "veomni/base/error.h"

namespace veomni::train {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;
using trace::Category;
using trace::Event;

constexpr int64_t kMs = 1'000'000;

Event span(Category category, int64_t begin_ms, int64_t end_ms, const char* name,
           const char* pass = nullptr) {
  return {.begin_ns = begin_ms * kMs,
          .end_ns = end_ms * kMs,
          .name = name,
          .pass = pass,
          .category = category};
}

/// One step of 100 ms, as its spans end: data 10, forward 30 (an op of 20 with a product, a wait of 5), backward 50 with a
/// recomputed layer and a kernel outside any op.
std::vector<trace::ThreadEvents> one_step() {
  trace::ThreadEvents main{.thread = 1, .name = "rank"}, comm{.thread = 2, .name = "comm"};
  Event product = span(Category::kKernel, 17, 33, "MatMul");
  product.flops = 4e9;
  main.events = {span(Category::kPhase, 0, 10, "data"),
                 product,
                 span(Category::kOp, 15, 35, "linear", "forward"),
                 span(Category::kWait, 35, 40, "wait all_gather"),
                 span(Category::kUnit, 12, 40, "layers.0", "forward"),
                 span(Category::kPhase, 10, 40, "forward"),
                 span(Category::kUnit, 46, 50, "layers.0.mlp", "forward"),
                 span(Category::kUnit, 45, 55, "layers.0", "recompute"),
                 span(Category::kKernel, 60, 63, "RopeAngles"),
                 span(Category::kUnit, 42, 88, "layers.0", "backward"),
                 span(Category::kPhase, 40, 90, "backward"),
                 span(Category::kStep, 0, 100, "step 5")};
  Event gather = span(Category::kCollective, 30, 39, "all_gather");
  gather.bytes = 3 << 20;
  gather.label = "layers.0";
  gather.group = "dp \"shard\"";
  comm.events = {gather};
  return {main, comm};
}

TEST(ProfileTable, SumsByNesting) {
  ProfileTable table;
  table.add(one_step());
  EXPECT_EQ(table.steps, 1);
  EXPECT_DOUBLE_EQ(table.step_ms, 100);
  EXPECT_DOUBLE_EQ(table.phases["forward"].ms, 30);
  EXPECT_DOUBLE_EQ(table.phases["forward"].ops_ms, 20);
  EXPECT_DOUBLE_EQ(table.phases["forward"].waiting_ms, 5);
  EXPECT_DOUBLE_EQ(table.phases["forward"].rest_ms(), 5);
  EXPECT_DOUBLE_EQ(table.phases["backward"].ops_ms, 3);
  ASSERT_EQ(table.ops.size(), 2u) << "a kernel inside an op is no op of its own";
  EXPECT_EQ(table.ops["linear forward"].calls, 1);
  EXPECT_DOUBLE_EQ(table.ops["linear forward"].flops, 4e9);
  EXPECT_DOUBLE_EQ(table.ops["RopeAngles"].ms, 3);
  EXPECT_EQ(table.collectives["all_gather"].bytes, 3 << 20);
  EXPECT_DOUBLE_EQ(table.collectives["all_gather"].ms, 9);
  EXPECT_DOUBLE_EQ(table.collectives["all_gather"].waiting_ms, 5);
  EXPECT_EQ(table.units["layers.0"].passes, 1);
  EXPECT_DOUBLE_EQ(table.units["layers.0"].forward_ms, 28);
  EXPECT_DOUBLE_EQ(table.units["layers.0"].recompute_ms, 10);
  EXPECT_DOUBLE_EQ(table.units["layers.0"].backward_ms, 46);
  EXPECT_DOUBLE_EQ(table.units["layers.0.mlp"].recompute_ms, 4) << "its forward is inside";
  EXPECT_EQ(table.units["layers.0.mlp"].passes, 0);
}

TEST(ProfileTable, IsAnAverageOverSteps) {
  ProfileTable once, twice;
  once.add(one_step());
  twice.add(one_step());
  twice.add(one_step());
  EXPECT_EQ(twice.steps, 2);
  EXPECT_EQ(rank_row(once), rank_row(twice));
}

TEST(ProfileTable, SaysWhereTimeWent) {
  ProfileTable table;
  table.add(one_step());
  const std::string text = describe(table);
  const auto line = [&](const std::string& start) {
    const size_t at = text.find("\n" + start);
    return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
  };
  EXPECT_THAT(line("forward "),
              testing::MatchesRegex("forward +30\\.00 +30\\.0% +20\\.00 +5\\.00 +5\\.00"));
  EXPECT_THAT(line("between phases"), HasSubstr("10.00"));
  EXPECT_THAT(line("linear forward"),
              testing::MatchesRegex("linear forward +1 +20\\.00 +20\\.0% +200\\.0"));
  EXPECT_THAT(line("RopeAngles"), testing::EndsWith(" -"));
  EXPECT_THAT(line("all_gather"), testing::MatchesRegex("all_gather +1 +3\\.000 +9\\.00 +5\\.00"));
  EXPECT_THAT(line("layers.0 "), testing::MatchesRegex("layers\\.0 +1 +28\\.00 +10\\.00 +46\\.00"));
  EXPECT_THAT(text, Not(HasSubstr("INCOMPLETE")));
}

TEST(ProfileTable, SaysThatSpansAreMissing) {
  auto threads = one_step();
  threads[0].num_dropped = 12;
  ProfileTable table;
  table.add(threads);
  EXPECT_THAT(describe(table), testing::StartsWith("INCOMPLETE: 12 spans"));
  EXPECT_THAT(describe_ranks({rank_row(table), rank_row({})}), HasSubstr("rank 0 lacks 12 spans"));
}

TEST(ProfileTable, ComparesRanks) {
  std::vector<std::vector<double>> rows;
  for (double forward : {30.0, 90.0, 50.0, 40.0}) {
    ProfileTable table;
    table.steps = 2;
    table.step_ms = 200;
    table.phases["forward"] = {.ms = 2 * forward, .ops_ms = 0, .waiting_ms = 20};
    rows.push_back(rank_row(table));
  }
  const std::string text = describe_ranks(rows);
  EXPECT_THAT(text, testing::ContainsRegex("  forward +20\\.00 +35\\.00 +80\\.00 +rank 1\n"));
  EXPECT_THAT(text, testing::ContainsRegex("waiting +10\\.00 +10\\.00 +10\\.00 +rank 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("codebook"))) << "no rank spent time there";
}

class TraceFileTest : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }
  nlohmann::json read() const {
    std::ifstream file(path_);
    return nlohmann::json::parse(file).at("traceEvents");  // throws if it is not whole
  }
  std::string path_ = testing::TempDir() + "trace." + std::to_string(::getpid()) + ".json";
};

TEST_F(TraceFileTest, IsWholeAfterEveryStep) {
  TraceFile file(path_, 3, 10 * kMs);
  EXPECT_EQ(read().size(), 1u);
  auto threads = one_step();
  threads[0].events[0].end_ns += 7;  // nanoseconds survive
  file.add(threads);
  const auto once = read();
  EXPECT_EQ(once.size(), 1 + 2 + 13u) << "process, threads, spans";
  file.add(threads);
  const auto twice = read();
  EXPECT_EQ(twice.size(), once.size() + 13u) << "a thread is named once";
  file.add({});
  EXPECT_EQ(read(), twice);

  const auto find = [&](const std::string& name) {
    for (const auto& event : once) {
      if (event.at("name") == name) return event;
    }
    return nlohmann::json();
  };
  const auto data = find("data");
  EXPECT_EQ(data.at("ph"), "X");
  EXPECT_EQ(data.at("cat"), "phase");
  EXPECT_EQ(data.at("pid"), 3);
  EXPECT_EQ(data.at("tid"), 1);
  EXPECT_DOUBLE_EQ(data.at("ts"), -10'000);
  EXPECT_DOUBLE_EQ(data.at("dur"), 10'000.007);
  EXPECT_EQ(find("layers.0 recompute").at("args").at("pass"), "recompute");
  EXPECT_EQ(find("MatMul").at("args").at("flops"), 4e9);
  const auto gather = find("all_gather").at("args");
  EXPECT_EQ(gather.at("group"), "dp \"shard\"");
  EXPECT_EQ(gather.at("unit"), "layers.0");
  EXPECT_EQ(gather.at("bytes"), 3 << 20);
}

TEST_F(TraceFileTest, AFileThatCannotBeWrittenIsNamed) {
  EXPECT_THAT([] { TraceFile("/nonexistent/rank_0.json", 0, 0); },
              ThrowsMessage<Error>(HasSubstr("cannot write /nonexistent/rank_0.json")));
}

TEST(StepsToProfile, AreTheFifthToSeventhOrTheLastThree) {
  EXPECT_EQ(steps_to_profile({}, 0, 100), (StepRange{5, 7}));
  EXPECT_EQ(steps_to_profile({}, 40, 100), (StepRange{45, 47}));
  EXPECT_EQ(steps_to_profile({}, 0, 2), (StepRange{1, 2}));
  EXPECT_EQ(steps_to_profile({}, 97, 100), (StepRange{98, 100}));
  EXPECT_EQ(steps_to_profile({}, 100, 100), std::nullopt);
  EXPECT_EQ(steps_to_profile(StepRange{3, 3}, 0, 100), (StepRange{3, 3}));
  EXPECT_THAT(
      [] {
        steps_to_profile(StepRange{3, 9}, 0, 8);
      },
      ThrowsMessage<ConfigError>(HasSubstr("train.steps is 8")));
  EXPECT_THAT(
      [] {
        steps_to_profile(StepRange{3, 9}, 3, 10);
      },
      ThrowsMessage<ConfigError>(HasSubstr("goes on from step 3")));
}

TEST(ParseSteps, TakesARange) {
  EXPECT_EQ(parse_steps("5..7"), (StepRange{5, 7}));
  EXPECT_EQ(parse_steps("12..12"), (StepRange{12, 12}));
  for (const char* wrong : {"", "5", "5-7", "7..5", "0..2", "a..b", "5..", "..7", "5..7x", "-1..2"})
    EXPECT_THROW(parse_steps(wrong), ConfigError) << wrong;
}

}  // namespace
}  // namespace veomni::train
