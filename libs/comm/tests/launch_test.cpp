// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "veomni/base/error.h"

namespace veomni {
namespace {

using Variables = std::map<std::string, std::string>;

Launch detect(const Variables& variables) {
  return detect_launch([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

int claimed(const Variables& variables) {
  return claimed_rank([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

Variables with(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}

std::string refusal(const Variables& variables) {
  try {
    detect(variables);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

const Variables kTorchrun = {{"RANK", "1"},
                             {"WORLD_SIZE", "4"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "127.0.0.1"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_RUN_ID", "none"}};

TEST(Launch, AloneWithoutVariables) {
  EXPECT_EQ(detect({}).kind, Launch::Kind::kAlone);
  EXPECT_EQ(detect({}).size, 1);
  EXPECT_EQ(detect({{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}}).kind,
            Launch::Kind::kAlone);
  EXPECT_EQ(detect({{"RANK", ""}}).kind, Launch::Kind::kAlone);
}

TEST(Launch, OwnVariablesGoAndComeBack) {
  Variables variables;
  for (const auto& pair : launch_variables(2, 3, "a-job")) {
    const size_t equals = pair.find('=');
    variables[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  const Launch launch = detect(variables);
  EXPECT_EQ(launch.kind, Launch::Kind::kOneHost);
  EXPECT_EQ(launch.rank, 2);
  EXPECT_EQ(launch.size, 3);
  EXPECT_EQ(launch.job, "a-job");
  for (const auto& [name, value] : variables)
    EXPECT_THAT(refusal(without(variables, name)), testing::HasSubstr(name));
}

TEST(Launch, OfTorchrun) {
  const Launch launch = detect(kTorchrun);
  EXPECT_EQ(launch.kind, Launch::Kind::kOneHost);
  EXPECT_EQ(launch.by, "torchrun");
  EXPECT_EQ(launch.rank, 1);
  EXPECT_EQ(launch.size, 4);
  EXPECT_NE(launch.job, detect(with(kTorchrun, "MASTER_PORT", "29501")).job);
  EXPECT_NE(launch.job, detect(with(kTorchrun, "TORCHELASTIC_RESTART_COUNT", "1")).job);
}

TEST(Launch, HalfOfTorchrunIsRefused) {
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    const std::string said = refusal(without(kTorchrun, name));
    EXPECT_THAT(said, testing::HasSubstr(std::string(name) + " is not")) << name;
    EXPECT_EQ(said.find('\n'), said.npos);
  }
  EXPECT_THAT(refusal({{"WORLD_SIZE", "2"}}), testing::HasSubstr("WORLD_SIZE is set"));
}

TEST(Launch, NumbersThatDoNotFit) {
  EXPECT_THAT(refusal(with(kTorchrun, "RANK", "four")), testing::HasSubstr("RANK='four'"));
  EXPECT_THAT(refusal(with(kTorchrun, "RANK", "-1")), testing::HasSubstr("RANK='-1'"));
  EXPECT_THAT(refusal(with(kTorchrun, "RANK", "4")), testing::HasSubstr("not below"));
  EXPECT_THAT(refusal(with(kTorchrun, "WORLD_SIZE", "0")), testing::HasSubstr("WORLD_SIZE='0'"));
  EXPECT_THAT(refusal(with(kTorchrun, "LOCAL_WORLD_SIZE", "2")), testing::HasSubstr("mpirun"));
}

TEST(Launch, OfMpi) {
  const Launch launch = detect({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "8"}});
  EXPECT_EQ(launch.kind, Launch::Kind::kMpi);
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.size, 8);
}

TEST(Launch, HalfOfTorchrunIsRefusedUnderMpirunToo) {
  const Variables mpi = {{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "8"}};
  EXPECT_THAT(refusal(with(mpi, "WORLD_SIZE", "8")), testing::HasSubstr("RANK"));
  EXPECT_EQ(refusal(with(mpi, "MASTER_ADDR", "head-node")), "");
  Variables both = kTorchrun;
  both.insert(mpi.begin(), mpi.end());
  EXPECT_EQ(detect(both).by, "mpirun");
}

TEST(Launch, OfSlurm) {
  const Variables tasks = {{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_PROCID", "3"}};
  EXPECT_THAT(refusal(tasks), testing::HasSubstr("--mpi=pmix"));
  const Launch launch = detect(with(tasks, "PMIX_RANK", "3"));
  EXPECT_EQ(launch.kind, Launch::Kind::kMpi);
  EXPECT_EQ(launch.by, "srun");
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.size, 8);
}

TEST(Launch, OtherLaunchersAreRefused) {
  EXPECT_THAT(refusal({{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}}),
              testing::HasSubstr("veomni launch -n"));
}

TEST(Launch, ClaimedRank) {
  EXPECT_EQ(claimed({}), 0);
  EXPECT_EQ(claimed({{"RANK", "2"}}), 2);
  EXPECT_EQ(claimed({{"RANK", "x"}, {"SLURM_PROCID", "5"}}), 5);
}

}  // namespace
}  // namespace veomni
