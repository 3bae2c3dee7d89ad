// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/group_norm.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/base/error.h"

namespace veomni::ops::testing {
namespace {

constexpr double kEps = 1e-6;

Op ours(int64_t groups, bool silu) {
  return [=](const Tensors& t) { return ops::group_norm(t[0], t[1], t[2], groups, kEps, silu); };
}

Op reference(int64_t groups, bool silu) {
  return [=](const Tensors& t) {
    const Tensor y = at::group_norm(t[0].permute({0, 3, 1, 2}), groups, t[1], t[2], kEps)
                         .permute({0, 2, 3, 1})
                         .contiguous();
    return silu ? at::silu(y) : y;
  };
}

Tensors values(at::IntArrayRef x) {
  return {normal(x, 1) * 3 + 1.5, normal({x[3]}, 2), normal({x[3]}, 3)};
}

TEST(GroupNorm, MatchesAten) {
  struct Shape {
    std::array<int64_t, 4> x;
    int64_t groups;
  };
  const std::vector<Shape> shapes = {{{2, 7, 7, 32}, 32},  {{3, 14, 14, 64}, 8},
                                     {{1, 28, 28, 30}, 5}, {{2, 1, 33, 70}, 2},
                                     {{5, 3, 2, 7}, 1},    {{1, 1, 1, 128}, 4}};
  for (const at::ScalarType dtype : kDtypes) {
    for (const Shape& s : shapes) {
      for (const bool silu : {false, true}) {
        expect_same(ours(s.groups, silu), reference(s.groups, silu), values(s.x), dtype,
                    c10::str(s.x[1], "x", s.x[2], "x", s.x[3], ", groups ", s.groups, silu));
      }
    }
  }
}

TEST(GroupNorm, ReadsStridedInputs) {
  const Tensor x = normal({2, 6, 5, 4}, 1).permute({0, 2, 3, 1});
  expect_same(ours(3, true), reference(3, true), {x, normal({6}, 2), normal({6}, 3)}, at::kDouble,
              "strided");
}

// A one-pass variance, E[x²] − E[x]², would be all rounding here.
TEST(GroupNorm, KeepsTheVarianceOfValuesFarFromZero) {
  const Tensor x = at::tensor({4095.0, 4096.0, 4097.0, 4096.0}).view({1, 2, 2, 1}).to(at::kFloat);
  const Tensor y =
      ops::group_norm(x, at::ones({1}, at::kFloat), at::zeros({1}, at::kFloat), 1, 0.0);
  const Tensor expected = at::tensor({-M_SQRT2, 0.0, M_SQRT2, 0.0}).view({1, 2, 2, 1});
  EXPECT_LE(relative_error(y, expected), 1e-6);
}

TEST(GroupNorm, NoPicturesOrPixelsGiveZeroGradients) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const std::array<int64_t, 4>& sizes :
         {std::array<int64_t, 4>{0, 7, 7, 8}, std::array<int64_t, 4>{2, 0, 7, 8}}) {
      auto inputs = leaves(values(sizes), dtype);
      const Outcome outcome = run(ours(2, true), inputs, at::empty(sizes));
      EXPECT_EQ(outcome.y.sizes(), at::IntArrayRef(sizes));
      EXPECT_EQ(outcome.grads[0].sizes(), at::IntArrayRef(sizes));
      for (const int i : {1, 2})
        EXPECT_TRUE(at::equal(outcome.grads[i], at::zeros_like(outcome.grads[i])));
    }
  }
}

TEST(GroupNorm, BFloat16WeightGradientIsFloatAccumulated) {
  auto inputs = leaves({at::ones({1, 32, 32, 2}), at::ones({2}), at::zeros({2})}, at::kBFloat16);
  run(ours(1, false), inputs, at::ones({1, 32, 32, 2}));
  ASSERT_EQ(inputs[2].grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(inputs[2].grad(), at::full({2}, 1024.0, at::kFloat)));
}

TEST(GroupNorm, FrozenWeightsGetNoGradient) {
  auto inputs = leaves(values({1, 3, 3, 4}), at::kFloat);
  const Tensor weight = inputs[1].detach();
  ops::group_norm(inputs[0], weight, inputs[2], 2, kEps).sum().backward();
  EXPECT_TRUE(inputs[0].grad().defined());
  EXPECT_FALSE(weight.grad().defined());
}

TEST(GroupNorm, RefusesWhatDoesNotFit) {
  const Tensor x = at::ones({1, 2, 2, 6}), w = at::ones({6});
  EXPECT_THROW(ops::group_norm(x[0], w, w, 2, kEps), Error);
  EXPECT_THROW(ops::group_norm(x, w, w, 4, kEps), Error);
  EXPECT_THROW(ops::group_norm(x, w, w, 0, kEps), Error);
  EXPECT_THROW(ops::group_norm(x, at::ones({5}), w, 2, kEps), Error);
  EXPECT_THROW(ops::group_norm(x, w, w.to(at::kDouble), 2, kEps), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
