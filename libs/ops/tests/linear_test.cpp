// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/linear.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/base/error.h"

namespace veomni::ops::testing {
namespace {

Tensor ours(const Tensors& t) { return ops::linear(t[0], t[1], t.size() > 2 ? t[2] : Tensor()); }
Tensor added(const Tensors& t) { return ops::linear(t[0], t[1], t[3], t[2]); }
Tensor added_reference(const Tensors& t) {
  const Tensor y = at::matmul(t[0], t[1].t()) + t[2];
  return t[3].defined() ? y + t[3] : y;
}
Tensor reference(const Tensors& t) {
  const Tensor y = at::matmul(t[0], t[1].t());
  return t.size() > 2 ? y + t[2] : y;
}

class LinearBackends : public ::testing::TestWithParam<LinearBackend> {
 protected:
  void SetUp() override { set_linear_backend(GetParam()); }
  void TearDown() override { set_linear_backend(LinearBackend::kAuto); }
};

TEST_P(LinearBackends, MatchesAtenForOddShapes) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const auto& [t, d, n] : std::vector<std::array<int64_t, 3>>{{1, 8, 8},
                                                                     {7, 24, 33},
                                                                     {33, 72, 24},
                                                                     {33, 512, 300},
                                                                     {257, 72, 512},
                                                                     {500, 300, 260}}) {
      const std::string what =
          std::to_string(t) + "x" + std::to_string(d) + "x" + std::to_string(n);
      expect_same(ours, reference, {normal({t, d}, 1), normal({n, d}, 2)}, dtype, what);
      expect_same(ours, reference, {normal({t, d}, 1), normal({n, d}, 2), normal({n}, 3)}, dtype,
                  what + " bias");
      expect_same(added, added_reference,
                  {normal({t, d}, 1), normal({n, d}, 2), normal({t, n}, 4), normal({n}, 3)}, dtype,
                  what + " bias and residual");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinearBackends,
                         ::testing::Values(LinearBackend::kAuto, LinearBackend::kOneDnn,
                                           LinearBackend::kBlas, LinearBackend::kOwn));

TEST(Linear, OwnKernelsMatchAtEveryLevel) {
  set_linear_backend("own");
  for (const at::ScalarType dtype : kDtypes) {
    expect_same(ours, reference, {normal({67, 300}, 1), normal({270, 300}, 2)}, dtype,
                "67x300x270");
  }
  set_linear_backend("auto");
}

// What the driver treats apart: several blocks of terms (k beyond 512, 1024, 2048 by dtype), odd k,
// rows a page apart, weights that stay in the cache while rows pass (beyond 8 MiB), results that are
// written past the caches (beyond 4 MiB), and last tiles of one row or column.
TEST(Linear, OwnKernelsMatchWhereTheirWalkDiffers) {
  set_linear_backend("own");
  for (const auto& [t, d, n] : std::vector<std::array<int64_t, 3>>{
           {49, 2049, 33}, {61, 4096, 64}, {25, 6001, 65}, {2048, 65, 37}}) {
    for (const at::ScalarType dtype : kDtypes) {
      expect_same(ours, reference, {normal({t, d}, 1), normal({n, d}, 2)}, dtype,
                  std::to_string(t) + "x" + std::to_string(d) + "x" + std::to_string(n));
    }
  }
  for (const at::ScalarType dtype : kDtypes) {
    expect_same(
        added, added_reference,
        {normal({61, 4096}, 1), normal({97, 4096}, 2), normal({61, 97}, 4), normal({97}, 3)}, dtype,
        "61x4096x97 bias and residual");
  }
  expect_same(ours, reference, {normal({97, 160}, 1), normal({27001, 160}, 2)}, at::kBFloat16,
              "97x160x27001");
  expect_same(ours, reference, {normal({256, 64}, 1), normal({16384, 64}, 2)}, at::kBFloat16,
              "256x64x16384");
  set_linear_backend("auto");
}

TEST(Linear, KeepsLeadingDimensionsAndReadsStridedInputs) {
  const Tensor x = normal({5, 3, 16}, 1).transpose(0, 1), weight = normal({16, 9}, 2).t();
  expect_same(ours, reference, {x, weight}, at::kDouble, "strided");
  EXPECT_EQ(ops::linear(x, weight).sizes(), (at::IntArrayRef{3, 5, 9}));
}

TEST(Linear, AddsAResidualWithoutABias) {
  const auto op = [](const Tensors& t) { return ops::linear(t[0], t[1], {}, t[2]); };
  const auto sum = [](const Tensors& t) { return at::matmul(t[0], t[1].t()) + t[2]; };
  for (const at::ScalarType dtype : kDtypes) {
    expect_same(op, sum, {normal({61, 40}, 1), normal({33, 40}, 2), normal({33, 61}, 3).t()}, dtype,
                "strided residual");
  }
  EXPECT_THROW(ops::linear(at::ones({2, 3}), at::ones({4, 3}), {}, at::ones({4})), Error);
  EXPECT_THROW(ops::linear(at::ones({2, 3}), at::ones({4, 3}), {}, at::ones({2, 4}, at::kDouble)),
               Error);
}

TEST(Linear, NoRowsGiveZeroGradients) {
  for (const at::ScalarType dtype : kDtypes) {
    auto inputs = leaves({normal({0, 8}, 1), normal({4, 8}, 2), normal({4}, 3)}, dtype);
    const Outcome outcome = run(ours, inputs, at::empty({0, 4}));
    EXPECT_EQ(outcome.y.sizes(), (at::IntArrayRef{0, 4}));
    EXPECT_EQ(outcome.grads[0].sizes(), (at::IntArrayRef{0, 8}));
    EXPECT_TRUE(at::equal(outcome.grads[1], at::zeros_like(outcome.grads[1])));
    EXPECT_TRUE(at::equal(outcome.grads[2], at::zeros_like(outcome.grads[2])));
  }
}

TEST(Linear, FrozenInputsGetNoGradient) {
  auto inputs = leaves({normal({5, 8}, 1), normal({4, 8}, 2)}, at::kFloat);
  const Tensor frozen_weight = inputs[1].detach();
  ops::linear(inputs[0], frozen_weight).sum().backward();
  EXPECT_TRUE(inputs[0].grad().defined());
  EXPECT_FALSE(frozen_weight.grad().defined());
  const Tensor data = inputs[0].detach();
  ops::linear(data, inputs[1]).sum().backward();
  EXPECT_TRUE(inputs[1].grad().defined());
  EXPECT_FALSE(ops::linear(data, frozen_weight).requires_grad());
}

// 4096 equal terms of 1 + 2^-7: a bfloat16 sum would stall, a bfloat16 result could not hold the
// total.
TEST(Linear, BFloat16WeightGradientIsFloatAccumulatedAndUnrounded) {
  auto inputs = leaves({at::full({4096, 8}, 1.0 + 1.0 / 128), at::ones({3, 8}), at::ones({3})},
                       at::kBFloat16);
  run(ours, inputs, at::ones({4096, 3}));
  for (const int i : {1, 2}) ASSERT_EQ(inputs[i].grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(inputs[1].grad(), at::full({3, 8}, 4096 + 32.0, at::kFloat)));
  auto more = leaves({at::full({257, 8}, 1.0), at::ones({3, 8}), at::ones({3})}, at::kBFloat16);
  more[1].mutable_grad() = at::full({3, 8}, 0.0009765625, at::kFloat);
  run(ours, more, at::ones({257, 3}));
  EXPECT_TRUE(at::equal(more[1].grad(), at::full({3, 8}, 257.0009765625, at::kFloat)));
  EXPECT_TRUE(at::equal(more[2].grad(), at::full({3}, 257.0, at::kFloat)));
}

TEST(Linear, NanAndInfinityReachTheResult) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      for (const char* backend : {"auto", "own"}) {
        set_linear_backend(backend);
        Tensor x = normal({50, 16}, 1).to(dtype);
        x[7][3].fill_(bad);
        const Tensor y = ops::linear(x, normal({40, 16}, 2).to(dtype));
        EXPECT_FALSE(at::isfinite(y[7]).any().item<bool>()) << bad;
        EXPECT_TRUE(at::isfinite(y[8]).all().item<bool>());
      }
    }
  }
  set_linear_backend("auto");
}

TEST(Linear, RefusesWhatDoesNotFit) {
  const Tensor x = at::ones({2, 8});
  EXPECT_THROW(ops::linear(x, at::ones({4, 7})), Error);
  EXPECT_THROW(ops::linear(x, at::ones({4, 8}, at::kDouble)), Error);
  EXPECT_THROW(ops::linear(x, at::ones({4, 8}), at::ones({3})), Error);
  EXPECT_THROW(ops::linear(at::ones({2, 8}, at::kHalf), at::ones({4, 8}, at::kHalf)), Error);
  EXPECT_THROW(set_linear_backend("mkl"), ConfigError);
}

TEST(Linear, RefusesSecondDerivatives) {
  auto inputs = leaves({normal({5, 8}, 1), normal({4, 8}, 2)}, at::kFloat);
  const Tensor loss = ops::linear(inputs[0], inputs[1]).sum();
  EXPECT_THROW(torch::autograd::grad({loss}, {inputs[0]}, {}, true, /*create_graph=*/true), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
