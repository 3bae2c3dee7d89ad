// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/shm.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "contract.h"
#include "processes.h"
#include "shm_ranks.h"
#include "veomni/base/log.h"
#include "veomni/comm/device_mesh.h"
#include "veomni/comm/rank_scope.h"
#include "veomni/comm/run_ranks.h"

namespace veomni {

namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing_processes::expect_all_pass;
using testing_processes::run_rank_processes;
using testing_processes::this_rank_process;
using testing_shm::next_name;
using testing_shm::run_threads;

std::vector<std::string> leftovers(const std::string& name) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    if (entry.path().filename().string().rfind(name, 0) == 0) found.push_back(entry.path());
  }
  return found;
}

}  // namespace

namespace contract {

INSTANTIATE_TEST_SUITE_P(ShmThreads, CommunicatorContract,
                         ::testing::Combine(::testing::Values(Backend{"shm", run_threads}),
                                            ::testing::Range(1, 5)),
                         param_name);

/// Only in processes that were started as ranks.
std::vector<Backend> process_backends() {
  if (!this_rank_process()) return {};
  return {Backend{"shm", testing_shm::run_process, true}};
}
INSTANTIATE_TEST_SUITE_P(ShmRank, CommunicatorContract,
                         ::testing::Combine(::testing::ValuesIn(process_backends()),
                                            ::testing::Range(1, 5)),
                         param_name);

}  // namespace contract

namespace {

TEST(ShmProcesses, KeepTheContract) {
  for (int size = 1; size <= 4; ++size) {
    SCOPED_TRACE(size);
    expect_all_pass(
        run_rank_processes(size, detail::concat("ShmRank/CommunicatorContract.*/shm", size), 100s));
  }
}

// Tests named ShmRank are bodies for copies of this program; alone they have nothing to do.
TEST(ShmRank, KillsItself) {
  const auto process = this_rank_process();
  if (!process) return;
  RankScope scope(process->rank, process->size);
  auto comm = make_shm_world(
      {.name = process->job, .rank = process->rank, .size = process->size, .timeout = 60s});
  auto half = comm->split(process->rank % 2, "half");
  auto x = torch::ones({1 << 20}), y = empty_in_window(*comm, {1 << 20}, x.options()).fill_(1);
  comm->all_reduce(x, x, ReduceOp::kSum)->wait();
  comm->all_reduce(y, y, ReduceOp::kSum)->wait();
  if (process->rank == 1) ::raise(SIGKILL);
  try {
    while (true) {
      comm->all_reduce(x, x, ReduceOp::kSum)->wait();
      comm->all_reduce(y, y, ReduceOp::kSum)->wait();
    }
  } catch (const AbortedError& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("rank 1 (process "), HasSubstr("has died")));
  }
  EXPECT_THROW(half->barrier(), AbortedError);
}

TEST(ShmProcesses, ADeadRankIsNamedByTheOthers) {
  // Far below the time-out of 60 s.
  auto outcomes = run_rank_processes(3, "ShmRank.KillsItself", 30s);
  EXPECT_EQ(outcomes[1].signal, SIGKILL);
  outcomes.erase(outcomes.begin() + 1);
  expect_all_pass(outcomes);
  EXPECT_THAT(leftovers(detail::concat("veomni_test.", ::getpid(), ".")), ::testing::IsEmpty());
}

/// Mappings of arenas in this process with these rights, as "r--s".
int mapped_arenas(const std::string& rights) {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) {
    count += line.find("memfd:veomni-arena") != std::string::npos &&
             line.find(" " + rights + " ") != std::string::npos;
  }
  return count;
}

TEST(Shm, PeersReadTheWindowWhereItLies) {
  const int before = mapped_arenas("rw-s");
  run_threads(3, 20s, [&](Communicator& comm) {
    auto out = torch::empty({3 * 100000});
    comm.all_gather(out, torch::ones({100000}))->wait();
    comm.barrier()->wait();
    EXPECT_EQ(mapped_arenas("rw-s"), before) << "nobody has asked for one";
    comm.barrier()->wait();
    auto in = empty_in_window(comm, {100000}, torch::kFloat).fill_(comm.rank());
    comm.barrier()->wait();
    comm.all_gather(out, in)->wait();
    comm.barrier()->wait();
    EXPECT_EQ(mapped_arenas("rw-s"), before + 3);
    EXPECT_EQ(mapped_arenas("r--s"), 3 * 2) << "each rank sees two others'";
    comm.barrier()->wait();
  });
  EXPECT_EQ(mapped_arenas("rw-s"), before);
  EXPECT_EQ(mapped_arenas("r--s"), 0);
}

TEST(ShmRank, HasNoWindow) {
  const auto process = this_rank_process();
  if (!process) return;
  std::string warnings;
  log::set_sink([&](log::Level, const std::string& line) { warnings += line; });
  RankScope scope(process->rank, process->size);
  auto comm = make_shm_world(
      {.name = process->job, .rank = process->rank, .size = process->size, .timeout = 60s});
  const rlimit small{1 << 20, 1 << 20};
  if (process->rank == 1) {
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  }
  auto in = empty_in_window(*comm, {100000}, torch::kFloat).fill_(process->rank);
  auto again = empty_in_window(*comm, {100000}, torch::kFloat).fill_(0);
  EXPECT_EQ(comm->window_allocator() == nullptr, process->rank == 1);
  for (int i = 0; i < 2; ++i) {
    auto out = torch::empty({process->size, 100000});
    comm->all_gather(out, in)->wait();
    for (int r = 0; r < process->size; ++r) EXPECT_EQ(out[r].min().item<float>(), r);
  }
  log::set_sink({});
  if (process->rank != 1) {
    EXPECT_EQ(warnings, "");
  } else {
    EXPECT_THAT(warnings, HasSubstr("copy once more"));
    EXPECT_THAT(warnings, HasSubstr("ulimit -f"));
    EXPECT_EQ(warnings.find("shm:"), warnings.rfind("shm:")) << "once";
  }
}

TEST(ShmProcesses, OneWithoutAWindowCopies) {
  expect_all_pass(run_rank_processes(3, "ShmRank.HasNoWindow", 60s));
}

TEST(Shm, SumsToTheBitsOfLocal) {
  auto value = [](int rank, torch::ScalarType dtype) {
    return torch::arange(60000, torch::kFloat).mul(0.37f + rank).sin().to(dtype);
  };
  for (auto dtype : {torch::kFloat, torch::kBFloat16}) {
    torch::Tensor sums[2], blocks[2];
    for (int kind : {0, 1}) {
      auto body = [&](Communicator& comm) {
        auto in = value(comm.rank(), dtype), sum = torch::empty_like(in);
        auto block = torch::empty({in.numel() / comm.size()}, torch::kFloat);
        comm.all_reduce(sum, in, ReduceOp::kSum)->wait();
        comm.reduce_scatter(block, in, ReduceOp::kSum)->wait();
        if (comm.rank() == 2) sums[kind] = sum, blocks[kind] = block;
      };
      kind == 0 ? run_ranks(3, body) : run_threads(3, 20s, body);
    }
    EXPECT_TRUE(torch::equal(sums[0], sums[1]));
    EXPECT_TRUE(torch::equal(blocks[0], blocks[1]));
  }
}

TEST(Shm, CallsProgressWhileARankDoesNotWait) {
  std::atomic<bool> peer_is_through{false};
  run_threads(2, 20s, [&](Communicator& comm) {
    auto x = torch::ones({1 << 20});
    auto work = comm.all_reduce(x, x, ReduceOp::kSum);
    if (comm.rank() == 1) {
      work->wait();
      peer_is_through = true;
      return;
    }
    const auto give_up = std::chrono::steady_clock::now() + 15s;
    while (!peer_is_through && std::chrono::steady_clock::now() < give_up)
      std::this_thread::sleep_for(1ms);
    EXPECT_TRUE(peer_is_through);
    work->wait();
    EXPECT_EQ(x[5].item<float>(), 2);
  });
}

TEST(Shm, LeavesNothingBehind) {
  run_threads(3, 20s, [&](Communicator& comm) {
    comm.split(comm.rank() % 2, "half")->barrier()->wait();
    comm.barrier()->wait();
    EXPECT_THAT(leftovers(detail::concat("veomni_test.", ::getpid(), ".Shm.LeavesNothing")),
                ::testing::IsEmpty());
  });
}

TEST(Shm, StartNamesWhoDidNotCome) {
  const std::string name = next_name();
  try {
    make_shm_world({.name = name, .rank = 1, .size = 3, .start_timeout = 50ms});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("did not all come in time; ranks that had not come: 0, 2"));
  }
  EXPECT_THAT(leftovers(name), ::testing::IsEmpty());
  EXPECT_THROW(make_shm_world({.name = name, .rank = 3, .size = 3}), ConfigError);
  EXPECT_THROW(make_shm_world({.name = "a/b", .rank = 0, .size = 1}), ConfigError);
}

TEST(Shm, ARankTakenTwiceIsRefused) {
  const std::string name = next_name();
  std::atomic<int> refused{0};
  auto join = [&] {
    try {
      make_shm_world({.name = name, .rank = 0, .size = 2, .start_timeout = 300ms});
    } catch (const Error& e) {
      refused += std::string(e.what()).find("rank 0 has already joined") != std::string::npos;
    }
  };
  std::thread one(join), other(join);
  one.join();
  other.join();
  EXPECT_EQ(refused, 1);
}

TEST(Shm, ARankThatEndsEarlyIsNamedAtOnce) {
  try {
    run_threads(3, 60s, [](Communicator& comm) {
      if (comm.rank() == 2) return;
      comm.barrier()->wait();
    });
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("cannot complete: rank 2 has ended"));
  }
}

TEST(Shm, DestroyingACommunicatorDoesNotWaitForItsCalls) {
  run_threads(2, 60s, [](Communicator& comm) {
    if (comm.rank() == 1) return;
    auto x = torch::ones({3});
    // Dropped: whether the peer ever joins is nobody's business.
    comm.all_reduce(x, x, ReduceOp::kSum);
  });
}

TEST(Shm, ManySmallCallsUnderMoreRanksThanCores) {
  run_threads(6, 60s, [](Communicator& comm) {
    auto x = torch::empty({1}, torch::kLong);
    for (int64_t i = 0; i < 200; ++i) {
      x.fill_(i + comm.rank());
      comm.all_reduce(x, x, ReduceOp::kSum)->wait();
      ASSERT_EQ(x.item<int64_t>(), 6 * i + 15);
    }
  });
}

TEST(Shm, CarriesADeviceMesh) {
  run_threads(4, 60s, [](Communicator& world) {
    DeviceMesh mesh(world.shared_from_this(), {.dp_replicate = 1, .dp_shard = 2, .sp = 2});
    auto sum = [&](const std::string& axis) {
      auto x = torch::full({1}, world.rank(), torch::kLong);
      mesh.communicator(axis)->all_reduce(x, x, ReduceOp::kSum)->wait();
      return x.item<int>();
    };
    EXPECT_EQ(sum("sp"), world.rank() / 2 * 4 + 1);
    EXPECT_EQ(sum("dp_shard"), 2 + 2 * (world.rank() % 2));
    EXPECT_EQ(sum("world"), 6);
    EXPECT_EQ(sum("dp_replicate"), world.rank());
  });
}

}  // namespace
}  // namespace veomni
