// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <thread>

#include "contract.h"

namespace veomni::contract {

namespace {

TEST_P(CommunicatorContract, DifferentOperationsFailEverywhere) {
  if (size() == 1) return;  // nobody to disagree with
  const auto message = failure_of([&](Communicator& comm) {
    auto x = torch::ones({4});
    const auto work = [&] {
      auto out = torch::empty({4 * size()});
      return comm.rank() == 0 ? comm.all_reduce(x, x, ReduceOp::kSum) : comm.all_gather(out, x);
    };
    EXPECT_THROW(work()->wait(), Error);
    throw_error("seen by rank 0 too");
  });
  EXPECT_THAT(message, HasSubstr("seen by rank 0 too"));
}

TEST_P(CommunicatorContract, MismatchNamesRanksAndCalls) {
  if (size() == 1) return;
  const auto sizes = failure_of([&](Communicator& comm) {
    auto x = torch::ones({comm.rank() == 1 ? 5 : 4});
    comm.all_reduce(x, x, ReduceOp::kSum)->wait();
  });
  EXPECT_THAT(sizes, HasSubstr("disagree"));
  EXPECT_THAT(sizes, HasSubstr("rank 1 called all_reduce(sum) float [5]"));
  const auto dtypes = failure_of([&](Communicator& comm) {
    auto x = torch::ones({4}, comm.rank() == 1 ? torch::kInt : torch::kFloat);
    comm.broadcast(x, 0)->wait();
  });
  EXPECT_THAT(dtypes, HasSubstr("rank 1 called broadcast int [4]"));
  const auto splits = failure_of([&](Communicator& comm) {
    std::vector<int64_t> ones(size(), 1), expect = ones;
    if (comm.rank() == 0) expect = std::vector<int64_t>(size(), 2);
    auto in = torch::ones({size(), 2}),
         out = torch::ones({comm.rank() == 0 ? 2 * size() : size(), 2});
    comm.all_to_all(out, in, expect, ones)->wait();
  });
  EXPECT_THAT(splits, HasSubstr("disagree"));
}

TEST_P(CommunicatorContract, BadArgumentsFailWithoutHanging) {
  auto fails = [&](const std::function<void(Communicator&)>& body) { return failure_of(body); };
  EXPECT_THAT(fails([](Communicator& comm) {
                comm.all_gather(torch::empty({7 * comm.size() + 1}), torch::ones({7}));
              }),
              HasSubstr("does not fit"));
  EXPECT_THAT(fails([](Communicator& comm) {
                auto x = torch::ones({4, 4}).t();
                if (comm.rank() == 0) comm.broadcast(x, 0);
                comm.barrier()->wait();
              }),
              HasSubstr("contiguous"));
  EXPECT_THAT(fails([](Communicator& comm) { comm.broadcast(torch::ones({1}), comm.size()); }),
              HasSubstr("no rank"));
  EXPECT_THAT(fails([](Communicator& comm) {
                comm.all_reduce(torch::empty({1}, torch::kBFloat16), torch::ones({1}),
                                ReduceOp::kSum);
              }),
              HasSubstr("cannot reduce"));
  EXPECT_THAT(fails([](Communicator& comm) {
                comm.all_to_all(torch::ones({1}), torch::ones({1}),
                                std::vector<int64_t>(comm.size(), 1),
                                std::vector<int64_t>(comm.size(), 3));
              }),
              HasSubstr("do not sum"));
}

TEST_P(CommunicatorContract, AbortEndsPendingAndLaterCalls) {
  std::atomic<int> ended{0};
  const auto message = failure_of([&](Communicator& comm) {
    if (comm.rank() == size() - 1) {
      comm.abort("enough");
    } else {
      EXPECT_THROW(comm.barrier()->wait(), AbortedError);
    }
    EXPECT_THROW(comm.barrier(), AbortedError);
    try {
      comm.split(0, "later");
    } catch (const AbortedError& e) {
      EXPECT_THAT(e.what(), HasSubstr("enough"));
      ++ended;
    }
  });
  EXPECT_EQ(message, "");
  EXPECT_EQ(ended, ranks_here());
}

TEST_P(CommunicatorContract, TimeOutNamesTheAbsent) {
  if (size() == 1) return;
  const auto message = failure_of(
      [&](Communicator& comm) {
        auto x = torch::ones({2});
        auto alone = comm.split(comm.rank(), "alone");
        const auto give_up = std::chrono::steady_clock::now() + 15s;
        // Absent until the others have given up, however slow they are.
        while (comm.rank() == 0 && std::chrono::steady_clock::now() < give_up) {
          alone->barrier()->wait();
          std::this_thread::sleep_for(5ms);
        }
        comm.all_reduce(x, x, ReduceOp::kSum)->wait();
      },
      200ms);
  EXPECT_THAT(message,
              ::testing::ContainsRegex("all_reduce\\(sum\\) float \\[2\\] #[0-9]+ on 'world' "
                                       "timed out after 200 ms"));
  EXPECT_THAT(message, HasSubstr("not arrived: 0"));
  EXPECT_THAT(message, HasSubstr("[rank "));
}

}  // namespace
}  // namespace veomni::contract
