// SPDX-License-Identifier: Apache-2.0
#include "contract.h"

#include <atomic>
#include <cmath>

namespace veomni::contract {

namespace {

const std::vector<torch::ScalarType> kDtypes = {torch::kDouble, torch::kFloat, torch::kBFloat16,
                                                torch::kHalf,   torch::kLong,  torch::kInt,
                                                torch::kByte};
// Odd, so that no rank's stretch is as long as another's; past one block of the reduction kernel;
// empty.
const std::vector<int64_t> kSizes = {0, 1, 3, 257, 5001};

/// What rank r holds: small integers, exact in every dtype.
torch::Tensor values_of(int rank, int64_t numel, torch::ScalarType dtype) {
  return torch::arange(numel, torch::kLong).remainder(7).add(rank * 3).to(dtype);
}

torch::Tensor sum_of_values(int size, int64_t numel, torch::ScalarType dtype) {
  auto sum = torch::zeros({numel}, torch::kLong);
  for (int r = 0; r < size; ++r) sum += values_of(r, numel, torch::kLong);
  return sum.to(dtype);
}

TEST_P(CommunicatorContract, RanksAreNumbered) {
  std::atomic<int> ran{0};
  run([&](Communicator& comm) {
    EXPECT_EQ(comm.size(), size());
    EXPECT_EQ(comm.name(), "world");
    auto ranks = torch::empty({size()}, torch::kLong);
    comm.all_gather(ranks, torch::full({1}, comm.rank()))->wait();
    EXPECT_TRUE(torch::equal(ranks, torch::arange(size())));
    ++ran;
  });
  EXPECT_EQ(ran, ranks_here());
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

TEST_P(CommunicatorContract, LargeTensorsPassInPieces) {
  run([&](Communicator& comm) {
    const int64_t n = 150001;
    for (auto dtype : {torch::kFloat, torch::kBFloat16, torch::kByte}) {
      auto all = torch::full({size() * n}, 9, dtype), sum = torch::full({n}, 9, dtype);
      comm.all_gather(all, values_of(comm.rank(), n, dtype))->wait();
      for (int r = 0; r < size(); ++r)
        EXPECT_TRUE(torch::equal(all.narrow(0, r * n, n), values_of(r, n, dtype))) << dtype;
      comm.reduce_scatter(sum, values_of(comm.rank(), size() * n, dtype), ReduceOp::kSum)->wait();
      EXPECT_TRUE(
          torch::equal(sum, sum_of_values(size(), size() * n, dtype).narrow(0, comm.rank() * n, n)))
          << dtype;
      auto x = values_of(comm.rank(), n, dtype);
      comm.all_reduce(x, x, ReduceOp::kSum)->wait();
      EXPECT_TRUE(torch::equal(x, sum_of_values(size(), n, dtype))) << dtype;
      comm.broadcast(x.copy_(values_of(comm.rank(), n, dtype)), size() - 1)->wait();
      EXPECT_TRUE(torch::equal(x, values_of(size() - 1, n, dtype))) << dtype;
    }
  });
}

TEST_P(CommunicatorContract, ManyTensorsAsOneCall) {
  run([&](Communicator& comm) {
    std::vector<torch::Tensor> ins, outs, sums;
    for (int64_t i = 0; i < 40; ++i) {
      const auto dtype = kDtypes[i % kDtypes.size()];
      ins.push_back(values_of(comm.rank(), i * i * 7 % 6000, dtype));
      outs.push_back(torch::full({size() * ins[i].numel()}, 9, dtype));
      sums.push_back(torch::full({ins[i].numel()}, 9, accumulate_dtype(dtype)));
    }
    comm.all_gather_coalesced(outs, ins)->wait();
    comm.reduce_scatter_coalesced(sums, outs, ReduceOp::kMax)->wait();
    for (size_t i = 0; i < ins.size(); ++i) {
      const int64_t n = ins[i].numel();
      for (int r = 0; r < size(); ++r)
        EXPECT_TRUE(
            torch::equal(outs[i].narrow(0, r * n, n), values_of(r, n, ins[i].scalar_type())));
      EXPECT_TRUE(torch::equal(sums[i], values_of(comm.rank(), n, sums[i].scalar_type())));
    }
  });
}

/// Sends rows(from, to) rows from each rank to each, of values that name both and the row.
void expect_rows_arrive(Communicator& comm, int64_t width,
                        const std::function<int64_t(int from, int to)>& rows) {
  auto block = [&](int from, int to) {
    return torch::arange(rows(from, to) * width, torch::kInt)
        .add(from * 100 + to)
        .view({rows(from, to), width});
  };
  std::vector<int64_t> in_splits, out_splits;
  std::vector<torch::Tensor> ins, expected;
  for (int s = 0; s < comm.size(); ++s) {
    in_splits.push_back(rows(comm.rank(), s));
    out_splits.push_back(rows(s, comm.rank()));
    ins.push_back(block(comm.rank(), s));
    expected.push_back(block(s, comm.rank()));
  }
  auto want = torch::cat(expected), out = torch::full_like(want, 9);
  comm.all_to_all(out, torch::cat(ins), out_splits, in_splits)->wait();
  EXPECT_TRUE(torch::equal(out, want));
}

TEST_P(CommunicatorContract, AllToAllTakesAnySplits) {
  run([&](Communicator& comm) {
    expect_rows_arrive(comm, 3, [](int, int) { return 0; });
    expect_rows_arrive(comm, 0, [](int, int to) { return to; });
    expect_rows_arrive(comm, 37, [](int from, int to) { return from == 0 ? 1500 * to : 1; });
    expect_rows_arrive(comm, 1, [](int from, int to) { return 20000 * ((from + 2 * to) % 3); });
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

}  // namespace
}  // namespace veomni::contract
