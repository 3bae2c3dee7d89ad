// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/rope.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "rotate_half.h"
#include "veomni/base/error.h"

namespace veomni::ops::testing {
namespace {

TEST(Rope, MatchesTheRotateHalfFormula) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const auto& [width, rotated] :
         std::vector<std::array<int64_t, 2>>{{8, 8}, {64, 64}, {128, 64}, {72, 18}}) {
      const Tensor position = integers(33, 5000, 4);
      const RopeTable table = rope_table(position, default_inv_freq(1e4, rotated), dtype, 1.25);
      expect_same([&](const Tensors& t) { return rope(t[0], table); },
                  [&](const Tensors& t) { return rotate_half(t[0], widened(table)); },
                  {normal({33, 3, width}, 1)}, dtype, "width " + std::to_string(width));
    }
  }
}

TEST(RopeTable, AnglesAreRoundedToFloatAsInTransformers) {
  const Tensor position = at::arange(0, 20000, 37, at::kInt);
  const std::vector<double> inv_freq = default_inv_freq(1e6, 128);
  const RopeTable table = rope_table(position, inv_freq, at::kBFloat16);
  const Tensor freq = 1.0 / at::pow(1e6, at::arange(0, 128, 2, at::kLong).to(at::kFloat) / 128);
  const Tensor angle = position.to(at::kFloat).unsqueeze(1) * freq.unsqueeze(0);
  ASSERT_EQ(table.cos_TR.scalar_type(), at::kFloat);
  // The angles agree to the bit, so what is left is the rounding of cos itself.
  EXPECT_LE((table.cos_TR - angle.cos()).abs().max().item<float>(), 2.5e-7);
  EXPECT_LE((table.sin_TR - angle.sin()).abs().max().item<float>(), 2.5e-7);
  const RopeTable wide = rope_table(position, inv_freq, at::kDouble);
  ASSERT_EQ(wide.cos_TR.scalar_type(), at::kDouble);
  const Tensor wide_angle =
      position.to(at::kDouble).unsqueeze(1) * freq.to(at::kDouble).unsqueeze(0);
  EXPECT_LE((wide.cos_TR - wide_angle.cos()).abs().max().item<double>(), 1e-12);
}

TEST(RopeTable, EveryFrequencyTurnsByItsOwnAxis) {
  const Tensor position =
      at::stack({integers(33, 50, 1), integers(33, 50, 2), integers(33, 50, 3)});
  const std::vector<double> inv_freq = default_inv_freq(1e4, 12);
  const std::vector<int32_t> axis = {0, 0, 1, 1, 1, 2};
  const RopeTable table = rope_table(position, inv_freq, axis, at::kDouble);
  for (size_t j = 0; j < axis.size(); ++j) {
    const RopeTable alone = rope_table(position[axis[j]], inv_freq, at::kDouble);
    EXPECT_TRUE(table.cos_TR.select(1, j).equal(alone.cos_TR.select(1, j))) << j;
    EXPECT_TRUE(table.sin_TR.select(1, j).equal(alone.sin_TR.select(1, j))) << j;
  }
  EXPECT_THROW(rope_table(position, inv_freq, {0, 0, 1, 1, 1, 3}, at::kDouble), Error);
  EXPECT_THROW(rope_table(position, inv_freq, {0, 1}, at::kDouble), Error);
}

TEST(Rope, NoTokensAndMisfits) {
  const RopeTable empty =
      rope_table(at::empty({0}, at::kLong), default_inv_freq(1e4, 8), at::kFloat);
  EXPECT_EQ(rope(at::empty({0, 2, 8}), empty).sizes(), (at::IntArrayRef{0, 2, 8}));
  const RopeTable table = rope_table(at::arange(3), default_inv_freq(1e4, 8), at::kFloat);
  EXPECT_THROW(rope(at::ones({3, 2, 6}), table), Error);
  EXPECT_THROW(rope(at::ones({4, 2, 8}), table), Error);
  EXPECT_THROW(rope(at::ones({3, 2, 8}, at::kDouble), table), Error);
  EXPECT_THROW(default_inv_freq(1e4, 7), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
