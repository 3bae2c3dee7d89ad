// SPDX-License-Identifier: Apache-2.0
#include "processes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

extern char** environ;

namespace veomni::testing_processes {

namespace {

struct Running {
  pid_t pid = -1;
  std::string output_path;
  bool ended = false;
  Outcome outcome;
};

Running start(const std::string& job, int rank, int size, const std::string& filter,
              const std::vector<std::string>& environment) {
  Running running;
  running.output_path = ::testing::TempDir() + job + "." + std::to_string(rank) + ".txt";
  std::vector<std::string> entries = environment;
  for (char** entry = environ; *entry; ++entry) {
    // The copies' results are this program's to report.
    if (std::string(*entry).rfind("GTEST_OUTPUT=", 0) != 0) entries.emplace_back(*entry);
  }
  entries.push_back("VEOMNI_TEST_JOB=" + job);
  entries.push_back("VEOMNI_TEST_RANK=" + std::to_string(rank));
  entries.push_back("VEOMNI_TEST_SIZE=" + std::to_string(size));
  std::vector<char*> env;
  for (auto& entry : entries) env.push_back(entry.data());
  env.push_back(nullptr);
  std::string program = "/proc/self/exe", chosen = "--gtest_filter=" + filter,
              brief = "--gtest_brief=1";
  char* arguments[] = {program.data(), chosen.data(), brief.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, running.output_path.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  EXPECT_EQ(posix_spawn(&running.pid, program.c_str(), &actions, nullptr, arguments, env.data()),
            0);
  posix_spawn_file_actions_destroy(&actions);
  return running;
}

void collect(Running& running, int status) {
  running.ended = true;
  if (WIFEXITED(status)) running.outcome.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) running.outcome.signal = WTERMSIG(status);
  std::ostringstream text;
  text << std::ifstream(running.output_path).rdbuf();
  running.outcome.output = text.str();
  ::unlink(running.output_path.c_str());
}

}  // namespace

std::optional<RankProcess> this_rank_process() {
  const char* job = std::getenv("VEOMNI_TEST_JOB");
  if (!job) return std::nullopt;
  return RankProcess{job, std::atoi(std::getenv("VEOMNI_TEST_RANK")),
                     std::atoi(std::getenv("VEOMNI_TEST_SIZE"))};
}

std::vector<Outcome> run_rank_processes(int size, const std::string& filter,
                                        std::chrono::seconds limit,
                                        const std::vector<std::string>& environment) {
  static int jobs = 0;
  const std::string job =
      "veomni_test." + std::to_string(::getpid()) + "." + std::to_string(jobs++);
  std::vector<Running> all;
  for (int r = 0; r < size; ++r) all.push_back(start(job, r, size, filter, environment));
  const auto deadline = std::chrono::steady_clock::now() + limit;
  bool killed = false;
  for (size_t left = all.size(); left > 0;) {
    for (auto& running : all) {
      int status = 0;
      if (running.ended || ::waitpid(running.pid, &status, WNOHANG) != running.pid) continue;
      collect(running, status);
      --left;
    }
    if (!killed && std::chrono::steady_clock::now() > deadline) {
      killed = true;
      for (auto& running : all) {
        if (!running.ended) ::kill(running.pid, SIGKILL);
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  std::vector<Outcome> outcomes;
  for (auto& running : all) outcomes.push_back(std::move(running.outcome));
  return outcomes;
}

void expect_all_pass(const std::vector<Outcome>& outcomes) {
  for (size_t r = 0; r < outcomes.size(); ++r) {
    EXPECT_EQ(outcomes[r].exit_code, 0)
        << "rank " << r << ", signal " << outcomes[r].signal << ":\n"
        << outcomes[r].output;
    EXPECT_EQ(outcomes[r].output.find("[  PASSED  ] 0 tests"), std::string::npos)
        << "rank " << r << " ran no test";
  }
}

}  // namespace veomni::testing_processes
