// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/conv.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/base/error.h"
#include "veomni/ops/linear.h"

namespace veomni::ops::testing {
namespace {

Op ours(const Conv2dOptions& options) {
  return [options](const Tensors& t) {
    return ops::conv2d(t[0], t[1], t.size() > 2 ? t[2] : Tensor(), options);
  };
}

Op reference(const Conv2dOptions& o) {
  return [o](const Tensors& t) {
    const Tensor x = at::constant_pad_nd(t[0].permute({0, 3, 1, 2}),
                                         {o.pad_left, o.pad_right, o.pad_top, o.pad_bottom});
    const Tensor bias = t.size() > 2 ? t[2] : Tensor();
    return at::conv2d(x, t[1], bias, {o.stride_h, o.stride_w}).permute({0, 2, 3, 1}).contiguous();
  };
}

struct Shape {
  std::string name;
  std::array<int64_t, 4> x;  ///< N, H, W, C
  int64_t features, kernel_h, kernel_w;
  Conv2dOptions options;
};

const Conv2dOptions kSame = {1, 1, 1, 1, 1, 1};

std::vector<Shape> shapes() {
  return {
      {"3x3 same", {2, 7, 7, 16}, 24, 3, 3, kSame},
      {"3x3 of colours", {2, 28, 28, 3}, 32, 3, 3, kSame},
      {"3x3 to colours", {1, 9, 5, 32}, 3, 3, 3, kSame},
      {"3x3 without padding", {3, 5, 6, 8}, 8, 3, 3, {}},
      {"downsample, odd padding", {2, 14, 14, 8}, 12, 3, 3, {2, 2, 0, 1, 0, 1}},
      {"unlike strides and padding", {2, 11, 8, 5}, 7, 3, 2, {3, 2, 2, 0, 1, 3}},
      {"stride beyond the kernel", {2, 9, 9, 4}, 6, 2, 2, {3, 4, 0, 0, 0, 0}},
      {"patches", {2, 12, 12, 3}, 10, 4, 4, {4, 4, 0, 0, 0, 0}},
      {"frames", {2, 1, 50, 20}, 24, 1, 3, {1, 1, 0, 0, 1, 1}},
      {"frames, stride 2", {2, 1, 51, 20}, 24, 1, 3, {1, 2, 0, 0, 1, 1}},
      {"pointwise", {2, 4, 5, 16}, 24, 1, 1, {}},
      {"pointwise, stride 2", {2, 5, 5, 16}, 24, 1, 1, {2, 2, 0, 0, 0, 0}},
      {"7x7", {2, 7, 7, 32}, 32, 3, 3, kSame},
      {"odd channels", {2, 12, 11, 7}, 5, 3, 3, kSame},
      {"one channel", {2, 12, 13, 1}, 1, 3, 3, kSame},
      {"several bands", {3, 28, 28, 64}, 16, 3, 3, kSame},
      {"more features than channels", {9, 5, 5, 40}, 130, 3, 3, kSame},
      {"padding beyond the kernel", {2, 3, 4, 5}, 6, 2, 3, {1, 1, 3, 2, 4, 5}},
      {"wide kernel", {1, 12, 9, 6}, 7, 5, 4, {1, 1, 2, 2, 1, 2}},
      {"too many channels for a band", {1, 1, 40, 530}, 20, 1, 3, {1, 1, 0, 0, 1, 1}},
      {"several chunks of windows", {5, 29, 29, 256}, 8, 3, 3, {2, 2, 1, 1, 1, 1}},
  };
}

Tensors values(const Shape& s, bool bias) {
  Tensors t = {normal(s.x, 1), normal({s.features, s.x[3], s.kernel_h, s.kernel_w}, 2)};
  if (bias) t.push_back(normal({s.features}, 3));
  return t;
}

TEST(Conv2d, MatchesAten) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const Shape& s : shapes()) {
      for (const bool bias : {false, true}) {
        expect_same(ours(s.options), reference(s.options), values(s, bias), dtype,
                    s.name + (bias ? ", bias" : ""));
      }
    }
  }
}

TEST(Conv2d, MatchesAtenWithEveryLinearBackend) {
  for (const char* backend : {"own", "onednn", "blas"}) {
    set_linear_backend(backend);
    for (const at::ScalarType dtype : kDtypes) {
      const Shape s = shapes()[4];
      expect_same(ours(s.options), reference(s.options), values(s, true), dtype, backend);
    }
  }
  set_linear_backend("auto");
}

TEST(Conv2d, ReadsStridedInputs) {
  const Tensor x = normal({2, 6, 7, 5}, 1).permute({0, 3, 1, 2}),
               weight = normal({3, 3, 7, 4}, 2).permute({3, 2, 0, 1});
  expect_same(ours(kSame), reference(kSame), {x, weight}, at::kDouble, "strided");
  EXPECT_TRUE(ops::conv2d(x, weight, {}, kSame).is_contiguous());
}

TEST(Conv2d, NoPicturesGiveZeroGradients) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const int64_t kernel : {1, 3}) {
      auto inputs = leaves(
          {normal({0, 7, 7, 4}, 1), normal({5, 4, kernel, kernel}, 2), normal({5}, 3)}, dtype);
      const Outcome outcome = run(ours({}), inputs, at::empty({0, 8 - kernel, 8 - kernel, 5}));
      EXPECT_EQ(outcome.y.sizes(), (at::IntArrayRef{0, 8 - kernel, 8 - kernel, 5}));
      EXPECT_EQ(outcome.grads[0].sizes(), (at::IntArrayRef{0, 7, 7, 4}));
      for (const int i : {1, 2}) {
        EXPECT_EQ(outcome.grads[i].sizes(), inputs[i].sizes());
        EXPECT_TRUE(at::equal(outcome.grads[i], at::zeros_like(outcome.grads[i])));
      }
    }
  }
}

TEST(Conv2d, FrozenInputsGetNoGradient) {
  auto inputs = leaves({normal({1, 5, 5, 4}, 1), normal({2, 4, 3, 3}, 2)}, at::kFloat);
  const Tensor frozen = inputs[1].detach(), data = inputs[0].detach();
  ops::conv2d(inputs[0], frozen).sum().backward();
  EXPECT_TRUE(inputs[0].grad().defined());
  ops::conv2d(data, inputs[1]).sum().backward();
  EXPECT_TRUE(inputs[1].grad().defined());
  EXPECT_FALSE(ops::conv2d(data, frozen).requires_grad());
}

// 4096 equal terms of 1 + 2^-7: a bfloat16 sum would stall, a bfloat16 result could not hold the
// total.
TEST(Conv2d, BFloat16WeightGradientIsFloatAccumulatedAndUnrounded) {
  for (const int64_t taps : {1, 3}) {
    const int64_t side = 31 + taps;
    auto inputs = leaves({at::full({4, side, side, 1}, 1.0 + 1.0 / 128),
                          at::ones({1, 1, taps, taps}), at::ones({1})},
                         at::kBFloat16);
    run(ours({}), inputs, at::ones({4, 32, 32, 1}));
    for (const int i : {1, 2}) ASSERT_EQ(inputs[i].grad().scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(inputs[1].grad(), at::full({1, 1, taps, taps}, 4096 + 32.0, at::kFloat)));
    EXPECT_TRUE(at::equal(inputs[2].grad(), at::full({1}, 4096.0, at::kFloat)));
  }
}

TEST(Conv2d, NanAndInfinityReachTheResult) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      Tensor x = normal({2, 7, 7, 8}, 1).to(dtype);
      x[0][3][3][3].fill_(bad);
      const Tensor y = ops::conv2d(x, normal({8, 8, 3, 3}, 2).to(dtype), {}, kSame);
      EXPECT_FALSE(at::isfinite(y[0][2][4]).any().item<bool>()) << bad;
      EXPECT_TRUE(at::isfinite(y[0][5]).all().item<bool>());
      EXPECT_TRUE(at::isfinite(y[1]).all().item<bool>());
    }
  }
}

TEST(Conv2d, RefusesWhatDoesNotFit) {
  const Tensor x = at::ones({1, 4, 4, 3}), weight = at::ones({2, 3, 3, 3});
  EXPECT_THROW(ops::conv2d(x, at::ones({2, 4, 3, 3})), Error);
  EXPECT_THROW(ops::conv2d(x[0], weight), Error);
  EXPECT_THROW(ops::conv2d(x, weight, at::ones({3})), Error);
  EXPECT_THROW(ops::conv2d(x, weight.to(at::kDouble)), Error);
  EXPECT_THROW(ops::conv2d(x.to(at::kHalf), weight.to(at::kHalf)), Error);
  EXPECT_THROW(ops::conv2d(x, weight, {}, {0, 1}), Error);
  EXPECT_THROW(ops::conv2d(x, weight, {}, {1, 1, -1}), Error);
  EXPECT_THROW(ops::conv2d(x, at::ones({2, 3, 5, 5})), Error);
  EXPECT_NO_THROW(ops::conv2d(x, at::ones({2, 3, 5, 5}), {}, {1, 1, 1, 0, 0, 1}));
}

TEST(Conv2d, RefusesSecondDerivatives) {
  auto inputs = leaves({normal({1, 4, 4, 2}, 1), normal({2, 2, 3, 3}, 2)}, at::kFloat);
  const Tensor loss = ops::conv2d(inputs[0], inputs[1]).sum();
  EXPECT_THROW(torch::autograd::grad({loss}, {inputs[0]}, {}, true, /*create_graph=*/true), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
