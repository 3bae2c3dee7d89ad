// SPDX-License-Identifier: Apache-2.0
// Every layout's tests with processes as ranks. Started by mpirun, each process is a rank; started alone, it starts
// VEOMNI_TEST_RANKS ranks as `veomni launch` does. Every rank judges by itself, and any failure is the job's exit code.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "on_ranks.h"
#include "supervisor.h"
#include "veomni/base/error.h"
#include "veomni/base/parse_number.h"
#include "veomni/comm/launch.h"
#include "veomni/comm/run_launched.h"

namespace {

using veomni::Launch;

// A collective of these small models takes milliseconds; a rank that computes alone, seconds.
constexpr auto kTimeout = std::chrono::seconds(60);

int start_ranks(int argc, char** argv) {
  const char* text = std::getenv("VEOMNI_TEST_RANKS");
  const auto ranks = veomni::parse_number<int>(text ? text : "");
  if (!ranks || *ranks < 2) {
    std::fprintf(stderr, "%s: start with mpirun -n N, or set VEOMNI_TEST_RANKS=N (at least 2)\n",
                 argv[0]);
    return 2;
  }
  std::array<char, 4096> path{};
  if (readlink("/proc/self/exe", path.data(), path.size() - 1) <= 0) return 2;
  veomni::cli::SupervisorOptions options{.ranks = *ranks, .command = {path.data()}};
  options.command.insert(options.command.end(), argv + 1, argv + argc);
  return veomni::cli::supervise(options);
}

// One report of a job, under a name that tells jobs apart: gtest/layouts_mpi_3 in tools/run_tests.py's table.
void name_report(const Launch& launch) {
  std::string output = GTEST_FLAG_GET(output);
  if (launch.rank != 0) output.clear();
  if (output.ends_with("/")) {
    const char* word = launch.kind != Launch::Kind::kMpi ? "shm"
                       : std::getenv("VEOMNI_HOST")      ? "hosts"
                                                         : "mpi";
    output += std::string("layouts_") + word + "_" + std::to_string(launch.size) + ".xml";
  }
  GTEST_FLAG_SET(output, output);
}

}  // namespace

int main(int argc, char** argv) {
  const Launch launch = veomni::detect_launch(veomni::process_environment);
  if (launch.kind == Launch::Kind::kAlone) return start_ranks(argc, argv);
  name_report(launch);
  testing::InitGoogleTest(&argc, argv);
  int code = 1;
  try {
    veomni::run_launched(launch, {.timeout = kTimeout}, [&](auto world) {
      veomni::on_ranks::enter_world(std::move(world));
      code = RUN_ALL_TESTS();
      veomni::on_ranks::enter_world(nullptr);
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  // No test at all is no success.
  return testing::UnitTest::GetInstance()->successful_test_count() > 0 ? code : 1;
}
