// SPDX-License-Identifier: Apache-2.0
// Weights that keep the layout products read: never a number from before a write.
#include <gtest/gtest.h>

#include "on_ranks.h"
#include "strategy_job.h"
#include "veomni/ops/linear.h"

namespace veomni::train {
namespace {

struct Outcome {
  Gradients masters;
  std::vector<double> norms;
};

enum class Write { kNothing, kHalves };

/// Two steps, perhaps a write of every rank's shards, and two more; of rank 0.
Outcome run_job(const Layout& layout, bool packed, Write write, torch::ScalarType dtype) {
  Outcome outcome;
  on_ranks::run(layout.ranks, [&](Communicator& world) {
    Job job(layout, dtype, world);
    if (packed) job.keep_packed_weights();
    for (int i = 0; i < 2; ++i) job.step();
    if (write == Write::kHalves) job.halve_shards();
    for (int i = 0; i < 2; ++i) job.step();
    // What a rank's storage holds between steps stays laid out; what it gathered for the step is gone.
    const bool gathers_all = (layout.strategy == "fsdp2" || layout.strategy == "fsdp1") &&
                             layout.ranks > layout.dp_replicate && !layout.mixed;
    EXPECT_EQ(job.packed_bytes() > 0, packed && !gathers_all) << layout.name;
    auto masters = job.masters();
    if (on_ranks::keeps(world)) outcome = {std::move(masters), job.norms};
  });
  return outcome;
}

class PackedWeights : public ::testing::TestWithParam<Layout> {
 protected:
  // These matrices are smaller than what "auto" gives to own kernels.
  void SetUp() override { ops::set_linear_backend("own"); }
  void TearDown() override { ops::set_linear_backend("auto"); }
};

TEST_P(PackedWeights, AShardThatIsWrittenGivesNewNumbers) {
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Outcome plain = run_job(GetParam(), false, Write::kHalves, dtype);
    const Outcome packed = run_job(GetParam(), true, Write::kHalves, dtype);
    EXPECT_EQ(packed.norms, plain.norms);
    EXPECT_EQ(different_bits(packed.masters, plain.masters), "");
    // The write matters: stale layouts would give the first of these.
    const Outcome untouched = run_job(GetParam(), true, Write::kNothing, dtype);
    EXPECT_EQ(untouched.norms[1], packed.norms[1]);
    EXPECT_NE(untouched.norms[2], packed.norms[2]);
  }
}

std::vector<Layout> all_layouts() {
  std::vector<Layout> all = layouts_of(2);
  all.push_back(kOne);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Layouts, PackedWeights, ::testing::ValuesIn(all_layouts()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace veomni::train
