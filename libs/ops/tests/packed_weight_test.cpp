// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/packed_weight.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/ops/linear.h"
#include "veomni/ops/loss.h"

namespace veomni::ops::testing {
namespace {

class PackedWeightTest : public ::testing::Test {
 protected:
  void SetUp() override { set_linear_backend("own"); }
  void TearDown() override { set_linear_backend("auto"); }

  PackedWeightPtr packed_ = c10::make_intrusive<PackedWeight>();
};

void expect_equal(const Outcome& got, const Outcome& want) {
  EXPECT_TRUE(at::equal(got.y, want.y));
  for (size_t i = 0; i < want.grads.size(); ++i)
    EXPECT_TRUE(at::equal(got.grads[i], want.grads[i])) << "gradient " << i;
}

// The shapes cover several blocks of terms, odd sizes, and weights that stay while rows pass over them (beyond 8 MiB).
TEST_F(PackedWeightTest, ChangesNoBitOfALinear) {
  packed_->keep(true);
  for (const auto& [t, d, n] : std::vector<std::array<int64_t, 3>>{
           {1, 8, 8}, {33, 72, 29}, {49, 2049, 33}, {61, 300, 270}, {97, 160, 27001}}) {
    const Op plain = [](const Tensors& x) { return ops::linear(x[0], x[1], x[2]); };
    const Op kept = [&](const Tensors& x) { return ops::linear(x[0], x[1], x[2], {}, packed_); };
    for (const at::ScalarType dtype : kDtypes) {
      SCOPED_TRACE(std::to_string(t) + "x" + std::to_string(d) + "x" + std::to_string(n));
      const Tensors values = {normal({t, d}, 1), normal({n, d}, 2), normal({n}, 3)};
      at_every_level([&] {
        packed_->written();
        const Outcome want = run(plain, leaves(values, dtype), normal({t, n}, 4));
        expect_equal(run(kept, leaves(values, dtype), normal({t, n}, 4)), want);
        expect_equal(run(kept, leaves(values, dtype), normal({t, n}, 4)), want);
      });
    }
  }
}

TEST_F(PackedWeightTest, ChangesNoBitOfALossInChunks) {
  packed_->keep(true);
  const Tensor labels = integers(90, 50, 3), weights = at::ones({90}, at::kDouble);
  const auto loss_with = [&](const PackedWeightPtr& packed) {
    return [&labels, &weights, packed](const Tensors& x) {
      return linear_cross_entropy(x[0], x[1], labels, weights, 32, {}, packed).total;
    };
  };
  for (const at::ScalarType dtype : kDtypes) {
    at_every_level([&] {
      packed_->written();
      const Tensors values = {normal({90, 24}, 1), normal({50, 24}, 2)};
      expect_equal(run(loss_with(packed_), leaves(values, dtype), at::ones({})),
                   run(loss_with({}), leaves(values, dtype), at::ones({})));
    });
  }
}

// That the layout is read at all shows where a write stays untold.
TEST_F(PackedWeightTest, IsLaidOutAnewOnlyWhenItsGenerationMoved) {
  packed_->keep(true);
  const Tensor x = normal({60, 24}, 1), weight = normal({40, 24}, 2);
  const Tensor before = ops::linear(x, weight, {}, {}, packed_);
  weight.mul_(2);
  EXPECT_TRUE(at::equal(ops::linear(x, weight, {}, {}, packed_), before));
  const uint64_t generation = packed_->generation();
  packed_->written();
  EXPECT_EQ(packed_->generation(), generation + 1);
  EXPECT_TRUE(at::equal(ops::linear(x, weight, {}, {}, packed_), before * 2));
}

TEST_F(PackedWeightTest, HoldsMemoryOnlyWhileItKeeps) {
  const Tensor x = normal({60, 24}, 1);
  Tensor weight = normal({40, 24}, 2).set_requires_grad(true);
  const auto step = [&] {
    ops::linear(x.detach().set_requires_grad(true), weight, {}, {}, packed_).sum().backward();
  };
  step();
  EXPECT_EQ(packed_->bytes(), 0);
  packed_->keep(true);
  step();
  // Panels of 32 columns; their terms rounded up to 32, and 4 between them.
  EXPECT_EQ(packed_->bytes(), 8 * (64 * (32 + 4) + 32 * (64 + 4)));
  packed_->release();
  EXPECT_EQ(packed_->bytes(), 0);
  step();
  packed_->keep(false);
  EXPECT_EQ(packed_->bytes(), 0);
}

}  // namespace
}  // namespace veomni::ops::testing
