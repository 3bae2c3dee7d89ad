// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/flight.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "processes.h"
#include "shm_ranks.h"
#include "veomni/base/context.h"
#include "veomni/base/trace.h"
#include "veomni/comm/fault.h"
#include "veomni/comm/run_ranks.h"

namespace veomni {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::SizeIs;

using Run = std::function<void(int size, std::chrono::milliseconds timeout,
                               const std::function<void(Communicator&)>& body)>;

void run_local(int size, std::chrono::milliseconds timeout,
               const std::function<void(Communicator&)>& body) {
  run_ranks(size, body, {.timeout = timeout});
}

/// Both kinds of recording: inside wait(), and by the communication thread.
class EveryKind : public ::testing::TestWithParam<std::pair<const char*, Run>> {
 protected:
  void run(int size, std::chrono::milliseconds timeout,
           const std::function<void(Communicator&)>& body) const {
    GetParam().second(size, timeout, body);
  }
  std::string failure_of(int size, std::chrono::milliseconds timeout,
                         const std::function<void(Communicator&)>& body) const {
    try {
      run(size, timeout, body);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  void TearDown() override { clear_faults(); }
};
class FlightRecorder : public EveryKind {};
class Faults : public EveryKind {};

std::string kind_name(const ::testing::TestParamInfo<std::pair<const char*, Run>>& info) {
  return info.param.first;
}
const auto kKinds = ::testing::Values(std::pair<const char*, Run>{"local", run_local},
                                      std::pair<const char*, Run>{"shm", testing_shm::run_threads});
INSTANTIATE_TEST_SUITE_P(Comm, FlightRecorder, kKinds, kind_name);
INSTANTIATE_TEST_SUITE_P(Comm, Faults, kKinds, kind_name);

std::vector<std::string> flight_lines(int rank) {
  const std::string path =
      ::testing::TempDir() + "flight." + std::to_string(::getpid()) + "." + std::to_string(rank);
  EXPECT_TRUE(write_flight(path.c_str(), rank));
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (line[0] != '#') lines.push_back(line);
  }
  ::unlink(path.c_str());
  return lines;
}

TEST_P(FlightRecorder, ShowsCallsWithTheirModuleAndState) {
  run(2, 20s, [](Communicator& comm) {
    auto x = torch::ones({3, 5}, torch::kBFloat16);
    const std::string label = "foundation.layers.7";
    {
      CallLabel scope(label);
      comm.all_reduce(x, x, ReduceOp::kSum)->wait();
    }
    auto pending = comm.barrier();
    comm.split(0, "half")->broadcast(x, 0)->wait();
    EXPECT_THAT(flight_ranks(), Contains(comm.rank()));
    auto lines = flight_lines(comm.rank());
    ASSERT_THAT(lines, SizeIs(4));
    EXPECT_THAT(lines[0], AllOf(HasSubstr("world"), HasSubstr("#0 "), HasSubstr("all_reduce"),
                                HasSubstr("BFloat16[3,5] 30 bytes  foundation.layers.7  done")));
    EXPECT_THAT(lines[1], AllOf(HasSubstr("#1 "), HasSubstr("barrier"), HasSubstr("  -  ")));
    EXPECT_THAT(lines[2], HasSubstr("split"));
    EXPECT_THAT(lines[3], AllOf(HasSubstr("half"), HasSubstr("broadcast"), HasSubstr("done")));
    pending->wait();
  });
  EXPECT_THAT(flight_ranks(), SizeIs(0));
  EXPECT_FALSE(write_flight("/dev/null", 0));
}

TEST_P(FlightRecorder, ATraceHasEveryCallAndEveryWait) {
  run(2, 20s, [](Communicator& comm) {
    const int worker = thread_context().worker;
    EXPECT_EQ(worker, comm.rank());
    comm.barrier()->wait();
    trace::take(worker);
    trace::start();
    auto x = torch::ones({3, 5}, torch::kBFloat16);
    const std::string label = "foundation.layers.7";
    {
      CallLabel scope(label);
      comm.all_reduce(x, x, ReduceOp::kSum)->wait();
    }
    comm.barrier()->wait();
    trace::stop();
    std::vector<trace::Event> calls;
    std::vector<std::string> waits;
    for (const auto& thread : trace::take(worker)) {
      for (const auto& event : thread.events) {
        EXPECT_LE(event.begin_ns, event.end_ns);
        if (event.category == trace::Category::kWait) waits.push_back(event.name);
        if (event.category == trace::Category::kCollective) calls.push_back(event);
      }
    }
    EXPECT_THAT(waits, ::testing::ElementsAre("wait all_reduce", "wait barrier"));
    ASSERT_THAT(calls, SizeIs(2));
    std::sort(calls.begin(), calls.end(),
              [](const auto& a, const auto& b) { return a.begin_ns < b.begin_ns; });
    EXPECT_STREQ(calls[0].name, "all_reduce");
    EXPECT_STREQ(calls[0].label, "foundation.layers.7");
    EXPECT_STREQ(calls[0].group, "world");
    EXPECT_EQ(calls[0].bytes, 30);
    EXPECT_STREQ(calls[1].name, "barrier");
    EXPECT_EQ(calls[1].label, nullptr);
    EXPECT_EQ(calls[1].bytes, 0);
  });
}

TEST_P(FlightRecorder, KeepsTheLastCalls) {
  run(1, 20s, [](Communicator& comm) {
    for (int i = 0; i < 300; ++i) comm.barrier()->wait();
    auto lines = flight_lines(0);
    ASSERT_THAT(lines, SizeIs(256));
    EXPECT_THAT(lines.front(), HasSubstr("#44 "));
    EXPECT_THAT(lines.back(), HasSubstr("#299 "));
  });
}

TEST(Watchdog, AbortsAJobWhoseCallIsStuck) {
  // Both communication threads hang, and no rank waits for them.
  for (int rank : {0, 1})
    inject_fault({.rank = rank, .seq = 1, .kind = FaultKind::kHang, .inside = true});
  testing_shm::run_threads(2, 300ms, [](Communicator& comm) {
    auto x = torch::ones({4});
    comm.barrier()->wait(10s);
    auto work = comm.all_reduce(x, x, ReduceOp::kSum);
    std::string message;
    const auto give_up = std::chrono::steady_clock::now() + 15s;
    while (message.empty() && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(20ms);
      try {
        comm.barrier();
      } catch (const AbortedError& e) {
        message = e.what();
      }
    }
    EXPECT_THAT(message, HasSubstr("watchdog: all_reduce(sum) float [4] #1 on 'world' did not end "
                                   "within 300 ms"));
  });
  clear_faults();
}

TEST_P(Faults, ASkippedCallIsFoundOut) {
  inject_fault({.rank = 1, .seq = 2, .kind = FaultKind::kSkip});
  const auto message = failure_of(3, 20s, [](Communicator& comm) {
    for (int i = 0; i < 5; ++i) {
      auto x = torch::ones({i + 1});
      comm.all_reduce(x, x, ReduceOp::kSum)->wait();
    }
  });
  EXPECT_THAT(message, AllOf(HasSubstr("ranks disagree on call #2 of 'world'"),
                             HasSubstr("rank 1 called all_reduce(sum) float [4]")));
}

TEST_P(Faults, AHangingRankIsNamed) {
  inject_fault({.rank = 2, .seq = 3, .kind = FaultKind::kHang});
  const auto message = failure_of(3, 300ms, [](Communicator& comm) {
    auto group = comm.split(0, "dp");
    for (int i = 0; i < 5; ++i) (i % 2 ? *group : comm).barrier()->wait();
  });
  EXPECT_THAT(message, AllOf(HasSubstr("barrier #1 on 'dp' timed out after 300 ms"),
                             HasSubstr("not arrived: 2")));
}

TEST(FaultText, IsReadAndRefused) {
  const Fault fault = parse_fault("rank=1,seq=20,kind=kill,at=inside");
  EXPECT_EQ(fault.rank, 1);
  EXPECT_EQ(fault.seq, 20);
  EXPECT_EQ(fault.kind, FaultKind::kKill);
  EXPECT_TRUE(fault.inside);
  auto refusal = [](const char* text) -> std::string {
    try {
      parse_fault(text);
    } catch (const ConfigError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(refusal("rank=1,seq=2"), HasSubstr("needs rank, seq and kind"));
  EXPECT_THAT(refusal("rank=1,seq=2x,kind=hang"), HasSubstr("seq=2x"));
  EXPECT_THAT(refusal("rank=1,seq=2,kind=die"), HasSubstr("take hang, skip or kill"));
  EXPECT_THAT(refusal("rank=1,when=2"), HasSubstr("unknown key 'when'"));
  EXPECT_THAT(refusal("rank"), HasSubstr("not key=value"));
  EXPECT_THAT(refusal("rank=1,seq=2,kind=skip,at=inside"), HasSubstr("cannot be skipped"));
}

// A body for copies of this program; alone it has nothing to do.
TEST(FaultRank, Works) {
  const auto process = testing_processes::this_rank_process();
  if (!process) return;
  try {
    testing_shm::run_process(process->size, 60s, [](Communicator& comm) {
      auto x = torch::ones({100000});
      for (int i = 0; i < 10; ++i) comm.all_reduce(x, x, ReduceOp::kMax)->wait();
    });
    FAIL() << "nothing happened";
  } catch (const AbortedError& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("all_reduce"), HasSubstr("#4"), HasSubstr("rank 1 "),
                                HasSubstr("has died")));
  }
}

TEST(FaultProcesses, TheEnvironmentKillsARank) {
  for (const char* at : {"before", "inside"}) {
    auto outcomes = testing_processes::run_rank_processes(
        3, "FaultRank.Works", 30s, {detail::concat("VEOMNI_FAULT=rank=1,seq=4,kind=kill,at=", at)});
    EXPECT_EQ(outcomes[1].signal, SIGKILL);
    outcomes.erase(outcomes.begin() + 1);
    testing_processes::expect_all_pass(outcomes);
  }
}

}  // namespace
}  // namespace veomni
