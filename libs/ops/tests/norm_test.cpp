// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/norm.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/base/error.h"

namespace veomni::ops::testing {
namespace {

constexpr double kEps = 1e-6;

Tensor rms(const Tensors& t) { return ops::rms_norm(t[0], t[1], kEps); }
Tensor rms_reference(const Tensors& t) {
  return t[1] * (t[0] * (t[0].pow(2).mean(-1, true) + kEps).rsqrt());
}
Tensor layer(const Tensors& t) { return ops::layer_norm(t[0], t[1], t[2], kEps); }
Tensor layer_reference(const Tensors& t) {
  const Tensor centred = t[0] - t[0].mean(-1, true);
  return centred * (centred.pow(2).mean(-1, true) + kEps).rsqrt() * t[1] + t[2];
}

TEST(RmsNorm, MatchesAtenAtEveryLevel) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const auto& sizes : std::vector<std::vector<int64_t>>{
             {1, 8}, {7, 24}, {33, 72}, {200, 512}, {7, 3, 64}, {5, 2, 128}}) {
      const int64_t width = sizes.back();
      expect_same(rms, rms_reference, {normal(sizes, 1), normal({width}, 2)}, dtype,
                  "width " + std::to_string(width));
    }
  }
}

TEST(LayerNorm, MatchesAtenAtEveryLevel) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const auto& [rows, width] :
         std::vector<std::array<int64_t, 2>>{{1, 8}, {7, 24}, {33, 72}, {200, 512}}) {
      expect_same(layer, layer_reference,
                  {normal({rows, width}, 1), normal({width}, 2), normal({width}, 3)}, dtype,
                  "width " + std::to_string(width));
    }
  }
}

// transformers rounds the normalised value before it multiplies by the weight; so must we, or every
// bfloat16 layer differs in its last bit.
TEST(RmsNorm, RoundsBeforeTheWeightInBFloat16) {
  const Tensor x = normal({64, 72}, 1).to(at::kBFloat16),
               weight = normal({72}, 2).to(at::kBFloat16);
  const Tensor wide = x.to(at::kFloat);
  const Tensor expected =
      weight * (wide * (wide.pow(2).mean(-1, true) + kEps).rsqrt()).to(at::kBFloat16);
  const Tensor differing = at::ne(ops::rms_norm(x, weight, kEps), expected);
  // A sum in another order may move a value across a rounding boundary, rarely.
  EXPECT_LE(differing.sum().item<int64_t>(), 5);
}

TEST(Norm, NoRowsGiveZeroGradients) {
  for (const at::ScalarType dtype : kDtypes) {
    const Outcome a =
        run(rms, leaves({normal({0, 8}, 1), normal({8}, 2)}, dtype), at::empty({0, 8}));
    EXPECT_EQ(a.y.sizes(), (at::IntArrayRef{0, 8}));
    EXPECT_TRUE(at::equal(a.grads[1], at::zeros_like(a.grads[1])));
    const Outcome b = run(layer, leaves({normal({0, 8}, 1), normal({8}, 2), normal({8}, 3)}, dtype),
                          at::empty({0, 8}));
    EXPECT_TRUE(at::equal(b.grads[1], at::zeros_like(b.grads[1])));
    EXPECT_TRUE(at::equal(b.grads[2], at::zeros_like(b.grads[2])));
  }
}

TEST(Norm, FrozenInputsGetNoGradient) {
  auto t = leaves({normal({5, 8}, 1), normal({8}, 2), normal({8}, 3)}, at::kFloat);
  ops::rms_norm(t[0], t[1].detach(), kEps).sum().backward();
  EXPECT_TRUE(t[0].grad().defined());
  ops::layer_norm(t[0].detach(), t[1].detach(), t[2], kEps).sum().backward();
  EXPECT_FALSE(t[1].grad().defined());
  EXPECT_TRUE(at::equal(t[2].grad(), at::full({8}, 5.0f)));
}

TEST(Norm, WeightGradientOfBFloat16IsFloat) {
  auto t = leaves({normal({50, 8}, 1), normal({8}, 2)}, at::kBFloat16);
  EXPECT_EQ(run(rms, t, normal({50, 8}, 3)).grads[1].scalar_type(), at::kFloat);
}

TEST(Norm, NanReachesTheResult) {
  for (const at::ScalarType dtype : kDtypes) {
    Tensor x = normal({4, 16}, 1).to(dtype);
    x[2][5].fill_(std::nan(""));
    const Tensor y = ops::rms_norm(x, at::ones({16}, dtype), kEps);
    EXPECT_TRUE(at::isnan(y[2]).all().item<bool>());
    EXPECT_TRUE(at::isfinite(y[1]).all().item<bool>());
  }
}

TEST(Norm, RefusesWhatDoesNotFit) {
  EXPECT_THROW(ops::rms_norm(at::ones({2, 8}), at::ones({7}), kEps), Error);
  EXPECT_THROW(ops::layer_norm(at::ones({2, 8}), at::ones({8}), at::ones({8}, at::kDouble), kEps),
               Error);
}

Tensor centred(const Tensors& t) { return ops::center_rows(t[0]); }
Tensor aten_centred(const Tensors& t) { return t[0] - t[0].mean(1, true); }

TEST(CenterRows, MatchesAten) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const std::array<int64_t, 3>& sizes :
         {std::array<int64_t, 3>{3, 49, 64}, std::array<int64_t, 3>{1, 1, 5},
          std::array<int64_t, 3>{2, 300, 130}}) {
      expect_same(centred, aten_centred, {normal(sizes, 1)}, dtype,
                  c10::str(at::IntArrayRef(sizes)));
    }
  }
  expect_same(centred, aten_centred, {normal({4, 6, 5}, 1).transpose(0, 2)}, at::kDouble,
              "strided");
}

TEST(CenterRows, NothingIsLegal) {
  for (const std::array<int64_t, 3>& sizes :
       {std::array<int64_t, 3>{0, 7, 3}, {2, 0, 3}, {2, 3, 0}})
    EXPECT_EQ(ops::center_rows(at::ones(sizes)).sizes(), at::IntArrayRef(sizes));
  EXPECT_THROW(ops::center_rows(at::ones({2, 3})), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
