// SPDX-License-Identifier: Apache-2.0
/// The contract of communicator.h as a suite: a backend's test file includes this and instantiates
/// CommunicatorContract.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <string>
#include <thread>
#include <tuple>

#include "veomni/comm/communicator.h"

namespace veomni::contract {

using namespace std::chrono_literals;
using ::testing::AnyOf;
using ::testing::HasSubstr;

struct Backend {
  std::string name;
  /// Runs body on every rank of a job of `size`; throws the first failure.
  std::function<void(int size, std::chrono::milliseconds timeout,
                     const std::function<void(Communicator&)>& body)>
      run;
};

class CommunicatorContract : public ::testing::TestWithParam<std::tuple<Backend, int>> {
 protected:
  int size() const { return std::get<1>(GetParam()); }
  void run(const std::function<void(Communicator&)>& body,
           std::chrono::milliseconds timeout = 20s) const {
    std::get<0>(GetParam()).run(size(), timeout, body);
  }
  /// The message run() throws, or "".
  std::string failure_of(const std::function<void(Communicator&)>& body,
                         std::chrono::milliseconds timeout = 20s) const {
    try {
      run(body, timeout);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
};

inline std::string param_name(const ::testing::TestParamInfo<std::tuple<Backend, int>>& info) {
  return std::get<0>(info.param).name + std::to_string(std::get<1>(info.param));
}

inline const std::vector<torch::ScalarType> kDtypes = {
    torch::kDouble, torch::kFloat, torch::kBFloat16, torch::kHalf,
    torch::kLong,   torch::kInt,   torch::kByte};
// Odd, so that no rank's stretch is as long as another's; past one block of the reduction kernel;
// empty.
inline const std::vector<int64_t> kSizes = {0, 1, 3, 257, 5001};

/// What rank r holds: small integers, exact in every dtype.
inline torch::Tensor values_of(int rank, int64_t numel, torch::ScalarType dtype) {
  return torch::arange(numel, torch::kLong).remainder(7).add(rank * 3).to(dtype);
}

inline torch::Tensor sum_of_values(int size, int64_t numel, torch::ScalarType dtype) {
  auto sum = torch::zeros({numel}, torch::kLong);
  for (int r = 0; r < size; ++r) sum += values_of(r, numel, torch::kLong);
  return sum.to(dtype);
}

TEST_P(CommunicatorContract, RanksAreNumbered) {
  std::vector<std::atomic<int>> seen(size());
  run([&](Communicator& comm) {
    EXPECT_EQ(comm.size(), size());
    ++seen.at(comm.rank());
  });
  for (auto& count : seen) EXPECT_EQ(count, 1);
}

TEST_P(CommunicatorContract, AllReduceSums) {
  run([&](Communicator& comm) {
    for (auto dtype : kDtypes) {
      for (int64_t n : kSizes) {
        auto in = values_of(comm.rank(), n, dtype), out = torch::full({n}, 9, dtype);
        comm.all_reduce(out, in, ReduceOp::kSum)->wait();
        EXPECT_TRUE(torch::equal(out, sum_of_values(size(), n, dtype))) << dtype << " " << n;
        EXPECT_TRUE(torch::equal(in, values_of(comm.rank(), n, dtype))) << "inputs stay";
        comm.all_reduce(in, in, ReduceOp::kSum)->wait();
        EXPECT_TRUE(torch::equal(in, out)) << "in place, " << dtype << " " << n;
      }
    }
  });
}

TEST_P(CommunicatorContract, AllReduceTakesTheLargestAndKeepsNan) {
  run([&](Communicator& comm) {
    auto x =
        torch::tensor({double(comm.rank()), -double(comm.rank()), comm.rank() == 0 ? NAN : 1.0});
    comm.all_reduce(x, x, ReduceOp::kMax)->wait();
    EXPECT_EQ(x[0].item<double>(), size() - 1);
    EXPECT_EQ(x[1].item<double>(), 0);
    EXPECT_TRUE(std::isnan(x[2].item<double>()));
  });
}

TEST_P(CommunicatorContract, ReductionsAccumulateWide) {
  run([&](Communicator& comm) {
    // 256 + 1 is 256 in bf16: only an fp32 accumulator sees the ones.
    auto in = torch::full({size() * 3}, comm.rank() == 0 ? 256.f : 1.f, torch::kBFloat16);
    auto wide = torch::empty({3}, torch::kFloat);
    comm.reduce_scatter(wide, in, ReduceOp::kSum)->wait();
    EXPECT_TRUE(torch::equal(wide, torch::full({3}, 255.f + size())));
    auto all = torch::empty({size() * 3}, torch::kFloat);
    comm.all_reduce(all, in, ReduceOp::kSum)->wait();
    EXPECT_TRUE(torch::equal(all, torch::full({size() * 3}, 255.f + size())));
  });
}

TEST_P(CommunicatorContract, AllGatherConcatenates) {
  run([&](Communicator& comm) {
    for (auto dtype : kDtypes) {
      for (int64_t n : kSizes) {
        auto out = torch::full({size() * n}, 9, dtype);
        comm.all_gather(out, values_of(comm.rank(), n, dtype))->wait();
        for (int r = 0; r < size(); ++r) {
          EXPECT_TRUE(torch::equal(out.narrow(0, r * n, n), values_of(r, n, dtype)))
              << dtype << " " << n;
        }
        auto place = torch::zeros({size() * n}, dtype);
        auto mine = place.narrow(0, comm.rank() * n, n);
        mine.copy_(values_of(comm.rank(), n, dtype));
        comm.all_gather(place, mine)->wait();
        EXPECT_TRUE(torch::equal(place, out)) << "in place";
      }
    }
  });
}

TEST_P(CommunicatorContract, CoalescedCallsEqualSingleOnes) {
  run([&](Communicator& comm) {
    auto a = values_of(comm.rank(), 5, torch::kBFloat16),
         b = values_of(comm.rank(), 3, torch::kDouble);
    auto none = torch::empty({0}, torch::kFloat);
    auto out_a = torch::empty({size() * 5}, torch::kBFloat16),
         out_b = torch::empty({size() * 3}, torch::kDouble);
    comm.all_gather_coalesced({out_a, none, out_b}, {a, none.clone(), b})->wait();
    for (int r = 0; r < size(); ++r) {
      EXPECT_TRUE(torch::equal(out_a.narrow(0, r * 5, 5), values_of(r, 5, torch::kBFloat16)));
      EXPECT_TRUE(torch::equal(out_b.narrow(0, r * 3, 3), values_of(r, 3, torch::kDouble)));
    }
    auto sum_a = torch::empty({5}, torch::kFloat), sum_b = torch::empty({3}, torch::kDouble);
    comm.reduce_scatter_coalesced({sum_a, sum_b}, {out_a, out_b}, ReduceOp::kSum)->wait();
    EXPECT_TRUE(torch::equal(sum_a, values_of(comm.rank(), 5, torch::kFloat) * size()));
    EXPECT_TRUE(torch::equal(sum_b, values_of(comm.rank(), 3, torch::kDouble) * size()));
    comm.all_gather_coalesced({}, {})->wait();
  });
}

TEST_P(CommunicatorContract, ReduceScatterKeepsOwnBlock) {
  run([&](Communicator& comm) {
    for (auto dtype : kDtypes) {
      for (int64_t n : kSizes) {
        auto in = values_of(comm.rank(), size() * n, dtype), out = torch::full({n}, 9, dtype);
        auto expected = sum_of_values(size(), size() * n, dtype).narrow(0, comm.rank() * n, n);
        comm.reduce_scatter(out, in, ReduceOp::kSum)->wait();
        EXPECT_TRUE(torch::equal(out, expected)) << dtype << " " << n;
        auto mine = in.narrow(0, comm.rank() * n, n);
        comm.reduce_scatter(mine, in, ReduceOp::kSum)->wait();
        EXPECT_TRUE(torch::equal(mine, expected)) << "in place";
      }
    }
  });
}

TEST_P(CommunicatorContract, ReductionsAreTheSameBitsEveryTime) {
  run([&](Communicator& comm) {
    auto in = torch::arange(4001, torch::kFloat).mul(0.37f + comm.rank()).sin();
    auto first = torch::empty_like(in), again = torch::empty_like(in);
    comm.all_reduce(first, in, ReduceOp::kSum)->wait();
    for (int i = 0; i < 10; ++i) {
      comm.all_reduce(again, in, ReduceOp::kSum)->wait();
      EXPECT_TRUE(torch::equal(first, again));
    }
    auto of_rank_0 = first.clone();
    comm.broadcast(of_rank_0, 0)->wait();
    EXPECT_TRUE(torch::equal(first, of_rank_0)) << "and on every rank";
  });
}

TEST_P(CommunicatorContract, AllToAllSendsRows) {
  run([&](Communicator& comm) {
    // Rank r sends (r + s) % 3 rows to s; a row is (sender, receiver).
    std::vector<int64_t> in_splits, out_splits;
    std::vector<torch::Tensor> rows, expected;
    for (int s = 0; s < size(); ++s) {
      in_splits.push_back((comm.rank() + s) % 3);
      out_splits.push_back((s + comm.rank()) % 3);
      auto row = [](int from, int to) {
        return torch::tensor({float(from), float(to)}).unsqueeze(0);
      };
      rows.push_back(row(comm.rank(), s).expand({in_splits.back(), 2}));
      expected.push_back(row(s, comm.rank()).expand({out_splits.back(), 2}));
    }
    auto in = torch::cat(rows), want = torch::cat(expected), out = torch::full_like(want, 9);
    comm.all_to_all(out, in, out_splits, in_splits)->wait();
    EXPECT_TRUE(torch::equal(out, want));
  });
}

TEST_P(CommunicatorContract, BroadcastCopiesTheRoots) {
  run([&](Communicator& comm) {
    for (int root = 0; root < size(); ++root) {
      for (int64_t n : kSizes) {
        auto x = values_of(comm.rank(), n, torch::kLong);
        comm.broadcast(x, root)->wait();
        EXPECT_TRUE(torch::equal(x, values_of(root, n, torch::kLong)));
      }
    }
    comm.barrier()->wait();
  });
}

TEST_P(CommunicatorContract, WorksMayBeWaitedForInAnyOrder) {
  run([&](Communicator& comm) {
    std::vector<torch::Tensor> x;
    std::vector<WorkPtr> works;
    for (int i = 0; i < 4; ++i) {
      x.push_back(torch::full({3}, float(comm.rank() + i)));
      works.push_back(comm.all_reduce(x[i], x[i], ReduceOp::kMax));
    }
    for (int i = 0; i < 4; ++i) works[comm.rank() % 2 ? i : 3 - i]->wait();
    for (int i = 0; i < 4; ++i) EXPECT_EQ(x[i][0].item<float>(), float(size() - 1 + i));
    works[0]->wait();
  });
}

TEST_P(CommunicatorContract, CallsLeaveAutogradAlone) {
  run([&](Communicator& comm) {
    auto leaf = torch::ones({4}).requires_grad_();
    auto loss = (leaf * leaf).sum();
    const auto version = leaf._version();
    comm.broadcast(leaf.detach(), 0)->wait();
    EXPECT_EQ(leaf._version(), version);
    loss.backward();
    EXPECT_EQ(leaf.grad()[0].item<float>(), 2);
  });
}

TEST_P(CommunicatorContract, SplitMakesGroupsInRankOrder) {
  run([&](Communicator& comm) {
    auto half = comm.split(comm.rank() % 2, "half");
    EXPECT_EQ(half->name(), "half");
    EXPECT_EQ(half->size(), (size() + (comm.rank() % 2 ? 0 : 1)) / 2);
    EXPECT_EQ(half->rank(), comm.rank() / 2);
    auto ranks = torch::empty({half->size()}, torch::kLong);
    half->all_gather(ranks, torch::full({1}, comm.rank()))->wait();
    for (int i = 0; i < half->size(); ++i) EXPECT_EQ(ranks[i].item<int>(), 2 * i + comm.rank() % 2);
    auto alone = half->split(comm.rank(), "alone");
    auto x = torch::ones({1});
    alone->all_reduce(x, x, ReduceOp::kSum)->wait();
    EXPECT_EQ(x.item<float>(), 1) << "groups of groups";
  });
}

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
  EXPECT_EQ(ended, size());
}

TEST_P(CommunicatorContract, TimeOutNamesTheAbsent) {
  if (size() == 1) return;
  const auto message = failure_of(
      [&](Communicator& comm) {
        auto x = torch::ones({2});
        comm.all_reduce(x, x, ReduceOp::kSum)->wait();
        if (comm.rank() == 0) std::this_thread::sleep_for(400ms);
        comm.all_reduce(x, x, ReduceOp::kSum)->wait();
      },
      100ms);
  EXPECT_THAT(message, HasSubstr("all_reduce(sum) float [2] #1 on 'world' timed out after 100 ms"));
  EXPECT_THAT(message, HasSubstr("not arrived: 0"));
  EXPECT_THAT(message, HasSubstr("[rank "));
}

}  // namespace veomni::contract
