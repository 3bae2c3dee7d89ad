// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/simulated.h"

#include "contract.h"
#include "veomni/comm/local.h"

namespace veomni {

namespace contract {

// With one rank nothing is left to simulate: the whole contract holds.
const Backend kSimulated = {"simulated", [](int size, std::chrono::milliseconds, const auto& body) {
                              body(*make_simulated_world({.rank = 0, .size = size}));
                            }};
INSTANTIATE_TEST_SUITE_P(Simulated, CommunicatorContract,
                         ::testing::Combine(::testing::Values(kSimulated), ::testing::Values(1)),
                         param_name);

}  // namespace contract

namespace {

TEST(Simulated, RecordsWhatAMeshWouldSend) {
  const MeshShape shape{.dp_replicate = 4, .dp_shard = 128, .sp = 2};
  const int rank = 777;
  auto world = make_simulated_world(simulated_mesh(shape, rank));
  DeviceMesh mesh(world, shape);
  EXPECT_EQ(mesh.coordinate("sp"), 1);
  EXPECT_EQ(mesh.coordinate("dp_shard"), rank / 2 % 128);
  EXPECT_EQ(mesh.coordinate("dp_replicate"), rank / 256);
  EXPECT_EQ(mesh.size("dp_shard_sp"), 256);
  const size_t splits = simulated_calls(*world).size();
  auto shard = torch::empty({1000}, torch::TensorOptions(torch::kMeta).dtype(torch::kBFloat16));
  auto whole = torch::empty({128000}, shard.options());
  mesh.communicator("dp_shard")->all_gather(whole, shard)->wait();
  mesh.communicator("dp_replicate")->all_reduce(shard, shard, ReduceOp::kSum)->wait();
  mesh.communicator("sp")->barrier()->wait();
  const auto& calls = simulated_calls(*world);
  ASSERT_EQ(calls.size(), splits + 3);
  EXPECT_EQ(calls[splits].operation, "all_gather");
  EXPECT_EQ(calls[splits].group, "dp_shard");
  EXPECT_EQ(calls[splits].group_size, 128);
  EXPECT_EQ(calls[splits].in_bytes, 2000);
  EXPECT_EQ(calls[splits].out_bytes, 256000);
  EXPECT_EQ(calls[splits].sent_bytes, 2000 * 127);
  EXPECT_EQ(calls[splits + 1].sent_bytes, 2 * 2000 * 3 / 4);
  EXPECT_EQ(calls[splits + 2].sent_bytes, 0);
}

TEST(Simulated, OtherRanksHoldZeros) {
  auto comm = make_simulated_world({.rank = 1, .size = 3});
  auto in = torch::tensor({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}), out = torch::full({2}, 9.f);
  comm->reduce_scatter(out, in, ReduceOp::kSum)->wait();
  EXPECT_TRUE(torch::equal(out, torch::tensor({3.f, 4.f})));
  auto all = torch::full({6}, 9.f);
  comm->all_gather(all, out)->wait();
  EXPECT_TRUE(torch::equal(all, torch::tensor({0.f, 0.f, 3.f, 4.f, 0.f, 0.f})));
  auto rows = torch::full({5, 1}, 9.f);
  comm->all_to_all(rows, in.view({6, 1}), {2, 2, 1}, {3, 2, 1})->wait();
  EXPECT_TRUE(torch::equal(rows.view({5}), torch::tensor({0.f, 0.f, 4.f, 5.f, 0.f})));
  EXPECT_EQ(simulated_calls(*comm).back().sent_bytes, 16);
  EXPECT_THROW(comm->all_gather(out, out), Error);
  EXPECT_THROW(simulated_calls(*make_single_communicator()), Error);
}

}  // namespace
}  // namespace veomni
