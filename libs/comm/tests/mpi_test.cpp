// SPDX-License-Identifier: Apache-2.0
// Run by an MPI launcher: every process is one rank, and all run the same tests in step.
#include "veomni/comm/mpi.h"

#include <cstdlib>

#include "contract.h"
#include "veomni/comm/device_mesh.h"
#include "veomni/comm/rank_scope.h"

namespace veomni {

namespace {

using Make = std::function<std::shared_ptr<Communicator>(std::chrono::milliseconds timeout)>;

std::shared_ptr<Communicator> make_mpi(std::chrono::milliseconds timeout) {
  return make_mpi_world({.timeout = timeout});
}

/// Makes a hierarchical world of pretended hosts: each of `ranks_per_host` neighbours.
Make hosts_of(int ranks_per_host) {
  return [=](std::chrono::milliseconds timeout) {
    const int rank = std::atoi(std::getenv("OMPI_COMM_WORLD_RANK"));
    return make_hierarchical_world(
        {.timeout = timeout, .host = detail::concat("host", rank / ranks_per_host)});
  };
}

void run_with(const Make& make, std::chrono::milliseconds timeout,
              const std::function<void(Communicator&)>& body) {
  auto comm = make(timeout);
  RankScope scope(comm->rank(), comm->size());
  try {
    // A body that ends the job must not meet a rank that is still being made.
    comm->barrier()->wait(std::chrono::seconds(60));
  } catch (const AbortedError&) {
    // The others are through and one of them has done so.
  }
  try {
    body(*comm);
  } catch (const std::exception& e) {
    comm->abort(e.what());
    throw;
  }
}

contract::Backend backend(const std::string& name, const Make& make) {
  return {name,
          [=](int, std::chrono::milliseconds timeout, const auto& body) {
            run_with(make, timeout, body);
          },
          true};
}

int launched_ranks() {
  const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
  return size ? std::atoi(size) : 1;
}

}  // namespace

namespace contract {

INSTANTIATE_TEST_SUITE_P(Mpi, CommunicatorContract,
                         ::testing::Combine(::testing::Values(backend("mpi", make_mpi),
                                                              backend("hosts_of_1_", hosts_of(1)),
                                                              backend("hosts_of_2_", hosts_of(2)),
                                                              backend("hosts_of_3_", hosts_of(3)),
                                                              backend("hosts_of_4_", hosts_of(4))),
                                            ::testing::Values(launched_ranks())),
                         param_name);

}  // namespace contract

namespace {

torch::Tensor values(int rank) {
  return torch::arange(70001, torch::kFloat).mul(0.37f + rank).sin();
}

TEST(Mpi, SumsInRankOrder) {
  run_with(make_mpi, std::chrono::seconds(20), [](Communicator& comm) {
    auto sum = torch::empty({70001}), expected = values(0);
    comm.all_reduce(sum, values(comm.rank()), ReduceOp::kSum)->wait();
    for (int r = 1; r < comm.size(); ++r) expected += values(r);
    EXPECT_TRUE(torch::equal(sum, expected));
  });
}

TEST(Hierarchical, SumsOverAHostFirst) {
  run_with(hosts_of(2), std::chrono::seconds(20), [](Communicator& comm) {
    auto sum = torch::empty({70001}), expected = torch::zeros({70001});
    comm.all_reduce(sum, values(comm.rank()), ReduceOp::kSum)->wait();
    for (int r = 0; r < comm.size(); r += 2)
      expected += r + 1 < comm.size() ? values(r) + values(r + 1) : values(r);
    EXPECT_TRUE(torch::equal(sum, expected));
  });
}

TEST(Hierarchical, CarriesADeviceMesh) {
  if (launched_ranks() != 4) return;
  run_with(hosts_of(2), std::chrono::seconds(20), [](Communicator& world) {
    DeviceMesh mesh(world.shared_from_this(), {.dp_replicate = 1, .dp_shard = 2, .sp = 2});
    auto sum = [&](const std::string& axis) {
      auto x = torch::full({1}, world.rank(), torch::kLong);
      mesh.communicator(axis)->all_reduce(x, x, ReduceOp::kSum)->wait();
      return x.item<int>();
    };
    EXPECT_EQ(sum("sp"), world.rank() / 2 * 4 + 1) << "inside a host";
    EXPECT_EQ(sum("dp_shard"), 2 + 2 * (world.rank() % 2)) << "across hosts";
    EXPECT_EQ(sum("world"), 6);
  });
}

}  // namespace
}  // namespace veomni

int main(int argc, char** argv) {
  // One report of a job is enough; the variable was read before main began.
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank && std::atoi(rank) != 0) GTEST_FLAG_SET(output, "");
  ::testing::InitGoogleTest(&argc, argv);
  const int failures = RUN_ALL_TESTS();
  veomni::finalize_mpi();
  return failures;
}
