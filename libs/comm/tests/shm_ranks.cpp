// SPDX-License-Identifier: Apache-2.0
#include "shm_ranks.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>

#include "processes.h"
#include "veomni/comm/rank_scope.h"
#include "veomni/comm/run_ranks.h"
#include "veomni/comm/shm.h"

namespace veomni::testing_shm {

using testing_processes::this_rank_process;

std::string next_name() {
  static std::atomic<int> worlds{0};
  const auto process = this_rank_process();
  // Ranks number their worlds test by test: a failure in one test does not put them out of step.
  static std::string last_test;
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string name = detail::concat(test->test_suite_name(), ".", test->name());
  if (name != last_test) worlds = 0;
  last_test = name;
  for (char& c : name) c = c == '/' ? '-' : c;
  return detail::concat(process ? process->job : detail::concat("veomni_test.", ::getpid()), ".",
                        name, ".", worlds++);
}

void run_threads(int size, std::chrono::milliseconds timeout,
                 const std::function<void(Communicator&)>& body) {
  const std::string name = next_name();
  run_ranks(size, body, {.timeout = timeout, .join = [&](int rank) {
                           return make_shm_world(
                               {.name = name, .rank = rank, .size = size, .timeout = timeout});
                         }});
}

void run_process(int size, std::chrono::milliseconds timeout,
                 const std::function<void(Communicator&)>& body) {
  const auto process = this_rank_process();
  ASSERT_TRUE(process && process->size == size);
  RankScope scope(process->rank, size);
  auto comm = make_shm_world(
      {.name = next_name(), .rank = process->rank, .size = size, .timeout = timeout});
  try {
    body(*comm);
  } catch (const std::exception& e) {
    comm->abort(e.what());
    throw;
  }
}

}  // namespace veomni::testing_shm
