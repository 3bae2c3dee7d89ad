// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/device_mesh.h"

#include <gmock/gmock.h>
#include <torch/types.h>

#include "veomni/comm/local.h"
#include "veomni/comm/run_ranks.h"

namespace veomni {
namespace {

using ::testing::HasSubstr;

TEST(ResolveMesh, FillsInTheShardAxis) {
  EXPECT_EQ(resolve_mesh({}, 4), (MeshShape{1, 4, 1}));
  EXPECT_EQ(resolve_mesh({.dp_replicate = 2, .sp = 2}, 8), (MeshShape{2, 2, 2}));
  EXPECT_EQ(resolve_mesh({.dp_replicate = 1, .dp_shard = 1, .sp = 1}, 1), (MeshShape{1, 1, 1}));
}

TEST(ResolveMesh, RefusesAProductThatIsNotTheWorld) {
  EXPECT_THROW(resolve_mesh({.dp_shard = 3}, 4), ConfigError);
  EXPECT_THROW(resolve_mesh({.sp = 3}, 4), ConfigError);
  EXPECT_THROW(resolve_mesh({.dp_replicate = 0}, 4), ConfigError);
  try {
    resolve_mesh({.dp_replicate = 2, .dp_shard = 4}, 4);
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_THAT(
        e.what(),
        HasSubstr(
            "mesh.dp_replicate=2 x mesh.dp_shard=4 x mesh.sp=1 is 8, but the job has 4 ranks"));
  }
}

TEST(DeviceMesh, CoordinatesSpellTheRank) {
  run_ranks(8, [](Communicator& world) {
    DeviceMesh mesh(world.shared_from_this(), {.dp_replicate = 2, .dp_shard = 2, .sp = 2});
    EXPECT_EQ(mesh.coordinate("dp_replicate") * 4 + mesh.coordinate("dp_shard") * 2 +
                  mesh.coordinate("sp"),
              world.rank());
    EXPECT_EQ(mesh.size("dp_shard_sp"), 4);
    EXPECT_EQ(mesh.coordinate("dp_shard_sp"), world.rank() % 4);
    EXPECT_EQ(mesh.coordinate("dp_replicate_dp_shard"), world.rank() / 2);
    EXPECT_EQ(mesh.coordinate("world"), world.rank());
    EXPECT_EQ(mesh.communicator("dp_shard")->name(), "dp_shard");
    EXPECT_THROW(mesh.communicator("dp_shards"), Error);
  });
}

TEST(DeviceMesh, GroupsHoldTheRightRanks) {
  run_ranks(6, [](Communicator& world) {
    DeviceMesh mesh(world.shared_from_this(), {.dp_replicate = 1, .dp_shard = 3, .sp = 2});
    auto sum = [&](const std::string& axis) {
      auto x = torch::full({1}, world.rank(), torch::kLong);
      mesh.communicator(axis)->all_reduce(x, x, ReduceOp::kSum)->wait();
      return x.item<int>();
    };
    const int r = world.rank();
    EXPECT_EQ(sum("sp"), r / 2 * 4 + 1);
    EXPECT_EQ(sum("dp_shard"), 6 + 3 * (r % 2));
    EXPECT_EQ(sum("dp_replicate"), r);
    EXPECT_EQ(sum("dp_shard_sp"), 15);
  });
}

TEST(DeviceMesh, OneRankHasEveryAxis) {
  DeviceMesh mesh(make_single_communicator(), {});
  for (const char* axis :
       {"dp_replicate", "dp_shard", "sp", "dp_shard_sp", "dp_replicate_dp_shard", "world"}) {
    EXPECT_EQ(mesh.size(axis), 1) << axis;
  }
  EXPECT_EQ(mesh.describe(), "dp_replicate 1 x dp_shard 1 x sp 1");
}

}  // namespace
}  // namespace veomni
