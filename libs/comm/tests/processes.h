// SPDX-License-Identifier: Apache-2.0
/// Ranks as processes: copies of this test program that run tests chosen by a filter.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace veomni::testing_processes {

/// What a copy was started as; nullopt in the program that a person or ctest started.
struct RankProcess {
  std::string job;  ///< unique
  int rank, size;
};
std::optional<RankProcess> this_rank_process();

/// How a copy ended.
struct Outcome {
  int exit_code = -1;  ///< -1 if it was killed
  int signal = 0;      ///< what killed it; SIGKILL also when it ran too long
  std::string output;  ///< standard output and error
};

/// Starts `size` copies with --gtest_filter=`filter` and waits for all; kills what is still running
/// after `limit`. `environment`: more "NAME=value" entries.
std::vector<Outcome> run_rank_processes(int size, const std::string& filter,
                                        std::chrono::seconds limit,
                                        const std::vector<std::string>& environment = {});

/// Fails the current test for every copy that did not pass, with its output.
void expect_all_pass(const std::vector<Outcome>& outcomes);

}  // namespace veomni::testing_processes
