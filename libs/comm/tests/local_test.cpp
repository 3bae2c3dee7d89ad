// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/local.h"

#include <ATen/Parallel.h>

#include "contract.h"
#include "veomni/base/context.h"
#include "veomni/comm/run_ranks.h"

namespace veomni {

namespace contract {

const Backend kLocal = {"local", [](int size, std::chrono::milliseconds timeout, const auto& body) {
                          run_ranks(size, body, {.timeout = timeout});
                        }};
INSTANTIATE_TEST_SUITE_P(Local, CommunicatorContract,
                         ::testing::Combine(::testing::Values(kLocal), ::testing::Range(1, 5)),
                         param_name);

}  // namespace contract

namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

std::string failure_of(int size, const std::function<void(Communicator&)>& body) {
  try {
    run_ranks(size, body, {.timeout = 20s});
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

TEST(Local, TakesCpuTensorsOnly) {
  auto comm = make_single_communicator();
  auto meta = torch::empty({3}, torch::kMeta);
  EXPECT_THROW(comm->all_reduce(meta, meta, ReduceOp::kSum), Error);
}

TEST(Local, ManySmallCallsUnderMoreRanksThanCores) {
  run_ranks(8, [](Communicator& comm) {
    auto x = torch::empty({1}, torch::kLong);
    for (int64_t i = 0; i < 200; ++i) {
      x.fill_(i + comm.rank());
      comm.all_reduce(x, x, ReduceOp::kSum)->wait();
      ASSERT_EQ(x.item<int64_t>(), 8 * i + 28);
    }
  });
}

TEST(RunRanks, GivesEachThreadItsLabelAndThreads) {
  const int before = at::get_num_threads();
  run_ranks(3, [](Communicator& comm) {
    EXPECT_EQ(thread_context().label, detail::concat("[rank ", comm.rank(), "/3] "));
    EXPECT_EQ(thread_context().primary, comm.rank() == 0);
  });
  run_ranks(2, [](Communicator&) { EXPECT_EQ(at::get_num_threads(), 3); }, {.threads_per_rank = 3});
  run_ranks(64, [](Communicator&) { EXPECT_EQ(at::get_num_threads(), 1); });
  EXPECT_EQ(at::get_num_threads(), before);
  EXPECT_EQ(thread_context().label, "");
}

TEST(RunRanks, RethrowsTheFirstFailureWithItsRank) {
  EXPECT_EQ(failure_of(3,
                       [](Communicator& comm) {
                         if (comm.rank() == 1) throw std::out_of_range("no such row");
                         comm.barrier()->wait();
                       }),
            "[rank 1/3] no such row");
  EXPECT_EQ(failure_of(2,
                       [](Communicator& comm) {
                         if (comm.rank() == 1) throw_error("once");
                         comm.barrier()->wait();
                       }),
            "[rank 1/2] once");
  EXPECT_THAT(
      failure_of(2,
                 [](Communicator& comm) {
                   if (comm.rank() == 1) TORCH_CHECK(false, "from torch");
                   comm.barrier()->wait();
                 }),
      testing::AllOf(HasSubstr("[rank 1/2] from torch"), Not(HasSubstr("Exception raised from"))));
}

TEST(RunRanks, KeepsTheKindOfFailure) {
  auto config = [](Communicator& comm) {
    if (comm.rank() == 0) throw_config_error("lr=-1");
    comm.barrier()->wait();
  };
  EXPECT_THROW(run_ranks(2, config), ConfigError);
  auto plain = [](Communicator& comm) {
    if (comm.rank() == 0) throw 3;
    comm.barrier()->wait();
  };
  EXPECT_THROW(run_ranks(2, plain), Error);
}

TEST(RunRanks, ARankThatEndsEarlyIsNamedAtOnce) {
  const auto message = failure_of(3, [](Communicator& comm) {
    if (comm.rank() == 2) return;
    comm.barrier()->wait();
  });
  EXPECT_THAT(message, HasSubstr("cannot complete; ranks that had not arrived: "));
  EXPECT_THAT(message, HasSubstr("2 (has ended)"));
}

}  // namespace
}  // namespace veomni
