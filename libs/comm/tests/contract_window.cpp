// SPDX-License-Identifier: Apache-2.0
// Inputs in window_allocator()'s memory, elsewhere, and some of each: the results are the same.

#include "contract.h"

namespace veomni::contract {

namespace {

/// Which inputs lie in the window.
using Placement = std::function<bool(int rank, int input)>;
const std::vector<std::pair<std::string, Placement>> kPlacements = {
    {"none", [](int, int) { return false; }},
    {"all", [](int, int) { return true; }},
    {"rank 0's", [](int rank, int) { return rank == 0; }},
    {"all but rank 0's", [](int rank, int) { return rank != 0; }},
    {"every second", [](int rank, int input) { return (rank + input) % 2 == 0; }},
    {"inputs 1, 4, 7", [](int, int input) { return input % 3 == 1; }}};

// Below and above what is worth asking for, odd, past many chunks; empty.
const std::vector<int64_t> kSizes = {0, 3, 5001, 40007, 300001};
const std::vector<torch::ScalarType> kDtypes = {torch::kFloat, torch::kBFloat16, torch::kLong};

torch::Tensor values_of(int rank, int64_t numel, torch::ScalarType dtype) {
  return torch::arange(numel, torch::kLong).remainder(11).add(rank * 3).to(dtype);
}

torch::Tensor sum_of_values(int size, int64_t numel, torch::ScalarType dtype) {
  auto sum = torch::zeros({numel}, torch::kLong);
  for (int r = 0; r < size; ++r) sum += values_of(r, numel, torch::kLong);
  return sum.to(dtype);
}

torch::Tensor placed(Communicator& comm, const torch::Tensor& values, bool in_window) {
  if (!in_window) return values.clone();
  return empty_in_window(comm, values.sizes(), values.options()).copy_(values);
}

void for_each_case(const std::function<void(const Placement&, int64_t, torch::ScalarType)>& body) {
  for (const auto& [name, placement] : kPlacements) {
    for (int64_t n : kSizes) {
      for (auto dtype : kDtypes) {
        SCOPED_TRACE(detail::concat(name, ", ", dtype, " ", n));
        body(placement, n, dtype);
      }
    }
  }
}

TEST_P(CommunicatorContract, GathersFromTheWindow) {
  run([&](Communicator& comm) {
    for_each_case([&](const Placement& placement, int64_t n, torch::ScalarType dtype) {
      auto in = placed(comm, values_of(comm.rank(), n, dtype), placement(comm.rank(), 0));
      auto out = torch::full({size() * n}, 9, dtype);
      comm.all_gather(out, in)->wait();
      in.fill_(77);  // ours again, whoever read it
      for (int r = 0; r < size(); ++r)
        ASSERT_TRUE(torch::equal(out.narrow(0, r * n, n), values_of(r, n, dtype)));
      auto place = placed(comm, torch::full({size() * n}, 9, dtype), placement(comm.rank(), 0));
      auto mine = place.narrow(0, comm.rank() * n, n);
      mine.copy_(values_of(comm.rank(), n, dtype));
      comm.all_gather(place, mine)->wait();
      ASSERT_TRUE(torch::equal(place, out)) << "in place";
    });
  });
}

TEST_P(CommunicatorContract, ReducesAndScattersFromTheWindow) {
  run([&](Communicator& comm) {
    for_each_case([&](const Placement& placement, int64_t n, torch::ScalarType dtype) {
      auto in = placed(comm, values_of(comm.rank(), size() * n, dtype), placement(comm.rank(), 0));
      auto out = torch::full({n}, 9, accumulate_dtype(dtype));
      auto expected = sum_of_values(size(), size() * n, dtype).narrow(0, comm.rank() * n, n);
      comm.reduce_scatter(out, in, ReduceOp::kSum)->wait();
      ASSERT_TRUE(torch::equal(out.to(dtype), expected));
      auto mine = in.narrow(0, comm.rank() * n, n);
      comm.reduce_scatter(mine, in, ReduceOp::kSum)->wait();
      ASSERT_TRUE(torch::equal(mine, expected)) << "in place";
    });
  });
}

TEST_P(CommunicatorContract, ReducesFromTheWindow) {
  run([&](Communicator& comm) {
    for_each_case([&](const Placement& placement, int64_t n, torch::ScalarType dtype) {
      auto in = placed(comm, values_of(comm.rank(), n, dtype), placement(comm.rank(), 0));
      auto out = placed(comm, torch::full({n}, 9, dtype), placement(comm.rank(), 1));
      comm.all_reduce(out, in, ReduceOp::kSum)->wait();
      ASSERT_TRUE(torch::equal(out, sum_of_values(size(), n, dtype)));
      ASSERT_TRUE(torch::equal(in, values_of(comm.rank(), n, dtype))) << "inputs stay";
      comm.all_reduce(in, in, ReduceOp::kSum)->wait();
      ASSERT_TRUE(torch::equal(in, out)) << "in place";
    });
  });
}

TEST_P(CommunicatorContract, BroadcastsFromTheWindow) {
  run([&](Communicator& comm) {
    for_each_case([&](const Placement& placement, int64_t n, torch::ScalarType dtype) {
      const int root = static_cast<int>(n) % size();
      auto x = placed(comm, values_of(comm.rank(), n, dtype), placement(comm.rank(), 0));
      comm.broadcast(x, root)->wait();
      ASSERT_TRUE(torch::equal(x, values_of(root, n, dtype)));
    });
  });
}

TEST_P(CommunicatorContract, SendsRowsFromTheWindow) {
  // Rank `from` sends these many rows of 5 to rank `to`.
  const std::vector<std::function<int64_t(int, int)>> splits = {
      [](int from, int to) { return from + 2 * to; }, [](int, int) { return 20000; },
      [](int from, int to) { return from == 0 ? 0 : 7001 * to; }};
  run([&](Communicator& comm) {
    for (const auto& [name, placement] : kPlacements) {
      for (const auto& rows : splits) {
        auto block = [&](int from, int to) {
          return torch::arange(rows(from, to) * 5, torch::kInt)
              .add(from * 100 + to)
              .view({rows(from, to), 5});
        };
        std::vector<int64_t> in_splits, out_splits;
        std::vector<torch::Tensor> ins, expected;
        for (int s = 0; s < size(); ++s) {
          in_splits.push_back(rows(comm.rank(), s));
          out_splits.push_back(rows(s, comm.rank()));
          ins.push_back(block(comm.rank(), s));
          expected.push_back(block(s, comm.rank()));
        }
        auto want = torch::cat(expected), out = torch::full_like(want, 9);
        auto in = placed(comm, torch::cat(ins), placement(comm.rank(), 0));
        comm.all_to_all(out, in, out_splits, in_splits)->wait();
        ASSERT_TRUE(torch::equal(out, want)) << name;
      }
    }
  });
}

TEST_P(CommunicatorContract, ManyTensorsFromTheWindow) {
  run([&](Communicator& comm) {
    for (const auto& [name, placement] : kPlacements) {
      std::vector<torch::Tensor> ins, outs, sums;
      for (int i = 0; i < 12; ++i) {
        const auto dtype = kDtypes[i % kDtypes.size()];
        const int64_t n = int64_t{i} * i * 977 % 30011;
        ins.push_back(placed(comm, values_of(comm.rank(), n, dtype), placement(comm.rank(), i)));
        outs.push_back(
            placed(comm, torch::full({size() * n}, 9, dtype), placement(comm.rank(), i + 1)));
        sums.push_back(torch::full({n}, 9, accumulate_dtype(dtype)));
      }
      comm.all_gather_coalesced(outs, ins)->wait();
      comm.reduce_scatter_coalesced(sums, outs, ReduceOp::kMax)->wait();
      for (size_t i = 0; i < ins.size(); ++i) {
        const int64_t n = ins[i].numel();
        for (int r = 0; r < size(); ++r) {
          ASSERT_TRUE(
              torch::equal(outs[i].narrow(0, r * n, n), values_of(r, n, ins[i].scalar_type())))
              << name;
        }
        ASSERT_TRUE(torch::equal(sums[i], values_of(comm.rank(), n, sums[i].scalar_type())))
            << name;
      }
    }
  });
}

TEST_P(CommunicatorContract, GroupsShareTheWindow) {
  run([&](Communicator& comm) {
    auto half = comm.split(comm.rank() % 2, "half");
    const int64_t n = 50000;
    auto in = placed(comm, values_of(comm.rank(), n, torch::kFloat), true);
    for (auto* group : {&comm, half.get(), &comm}) {
      auto out = torch::full({group->size() * n}, 9.f);
      group->all_gather(out, in)->wait();
      for (int i = 0; i < group->size(); ++i) {
        const int world_rank = group == &comm ? i : 2 * i + comm.rank() % 2;
        ASSERT_TRUE(torch::equal(out.narrow(0, i * n, n), values_of(world_rank, n, torch::kFloat)));
      }
    }
  });
}

}  // namespace
}  // namespace veomni::contract
