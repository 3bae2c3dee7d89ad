// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/vq.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/base/error.h"

namespace veomni::ops::testing {
namespace {

/// The index by the definition, one pair at a time, in the precision of the op.
template <typename A> Tensor nearest_by_definition(const Tensor& x, const Tensor& codebook) {
  Tensor index = at::empty({x.size(0)}, at::kLong);
  const Tensor xs = x.to(c10::CppTypeToScalarType<A>::value), cs = codebook.to(xs.scalar_type());
  const auto rows = xs.accessor<A, 2>(), codes = cs.accessor<A, 2>();
  for (int64_t r = 0; r < x.size(0); ++r) {
    A best = std::numeric_limits<A>::infinity();
    for (int64_t c = 0; c < codebook.size(0); ++c) {
      A distance = 0;
      for (int64_t e = 0; e < x.size(1); ++e)
        distance = std::fma(rows[r][e] - codes[c][e], rows[r][e] - codes[c][e], distance);
      if (distance < best) {
        best = distance;
        index.mutable_data_ptr<int64_t>()[r] = c;
      }
    }
  }
  return index;
}

TEST(NearestCode, MatchesTheDefinitionAtEveryLevel) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const auto& [rows, codes, width] : std::vector<std::array<int64_t, 3>>{
             {1, 1, 8}, {7, 5, 8}, {9, 64, 3}, {50, 1000, 8}, {33, 16384, 8}, {4, 70, 33}}) {
      const Tensor x = normal({rows, width}, 1).to(dtype),
                   codebook = normal({codes, width}, 2).to(dtype);
      const Tensor expected = dtype == at::kDouble ? nearest_by_definition<double>(x, codebook)
                                                   : nearest_by_definition<float>(x, codebook);
      at_every_level([&, codes = codes] {
        const Tensor index = nearest_code(x, codebook);
        ASSERT_EQ(index.scalar_type(), at::kLong);
        EXPECT_TRUE(at::equal(index, expected)) << codes << " codes, " << c10::toString(dtype);
      });
    }
  }
}

TEST(NearestCode, TakesTheLowestOfEquals) {
  for (const at::ScalarType dtype : kDtypes) {
    const Tensor one = normal({1, 8}, 1).to(dtype);
    for (const int64_t copies : {2, 17, 100}) {
      for (const int64_t before : {0, 1, 31, 32, 40}) {
        const Tensor codebook =
            at::cat({at::full({before, 8}, 50, dtype), one.expand({copies, 8})});
        at_every_level(
            [&] { EXPECT_EQ(nearest_code(one, codebook).item<int64_t>(), before) << copies; });
      }
    }
    at_every_level([&] {  // 1 and -1 are equally far from 0
      EXPECT_EQ(
          nearest_code(at::zeros({1, 1}, dtype), at::tensor({2, -1, 1}).view({3, 1}).to(dtype))
              .item<int64_t>(),
          1);
    });
  }
}

// ‖x‖² − 2xc + ‖c‖² loses the difference of neighbours that are far from zero.
TEST(NearestCode, ComparesDifferencesNotProducts) {
  const Tensor codebook = (at::arange(64, at::kFloat) / 64 + 4096).view({64, 1});
  at_every_level(
      [&] { EXPECT_TRUE(at::equal(nearest_code(codebook, codebook), at::arange(64, at::kLong))); });
}

TEST(NearestCode, PassesOverNan) {
  Tensor codebook = at::ones({3, 2}, at::kFloat);
  codebook[0].fill_(std::nan(""));
  at_every_level([&] {
    EXPECT_EQ(nearest_code(at::zeros({1, 2}), codebook).item<int64_t>(), 1);
    EXPECT_EQ(nearest_code(at::full({1, 2}, std::nan("")), codebook).item<int64_t>(), 0);
  });
}

TEST(NearestCode, HasNoGraphAndTakesNoRows) {
  auto t = leaves({normal({4, 8}, 1), normal({9, 8}, 2)}, at::kFloat);
  EXPECT_FALSE(nearest_code(t[0], t[1]).requires_grad());
  EXPECT_EQ(nearest_code(at::empty({0, 8}), t[1]).sizes(), (at::IntArrayRef{0}));
  EXPECT_TRUE(at::equal(
      nearest_code(normal({8, 4}, 1).t(), normal({8, 9}, 2).t()),
      nearest_code(normal({8, 4}, 1).t().contiguous(), normal({8, 9}, 2).t().contiguous())));
}

Tensor normalized(const Tensors& t) { return l2_normalize(t[0]); }
Tensor aten_normalized(const Tensors& t) {
  return t[0] / t[0].norm(2, -1, true).clamp_min(1e-12).expand_as(t[0]);
}

TEST(L2Normalize, MatchesAten) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const std::array<int64_t, 2>& sizes :
         {std::array<int64_t, 2>{1, 2}, std::array<int64_t, 2>{33, 8},
          std::array<int64_t, 2>{300, 72}}) {
      expect_same(normalized, aten_normalized, {normal(sizes, 1)}, dtype,
                  c10::str(at::IntArrayRef(sizes)));
    }
  }
  expect_same(normalized, aten_normalized, {normal({5, 6, 7}, 1).transpose(0, 2)}, at::kDouble,
              "strided");
}

TEST(L2Normalize, ShortRowsAreDividedByEps) {
  Tensor x = normal({3, 4}, 1) * 1e-3;
  x[1].fill_(0);
  const auto op = [](double eps) {
    return [eps](const Tensors& t) { return l2_normalize(t[0], eps); };
  };
  for (const at::ScalarType dtype : kDtypes) {
    auto t = leaves({x}, dtype);
    const Outcome outcome = run(op(0.25), t, at::ones({3, 4}));
    EXPECT_LE(relative_error(outcome.y, t[0].detach().to(at::kDouble) * 4), tolerance(dtype));
    EXPECT_TRUE(at::equal(outcome.grads[0], at::full({3, 4}, 4.0, outcome.grads[0].options())));
  }
  auto t = leaves({x}, at::kFloat);
  const Outcome outcome = run(op(1e-12), t, at::ones({3, 4}));
  EXPECT_TRUE(at::equal(outcome.y[1], at::zeros({4})));
  EXPECT_TRUE(at::isfinite(outcome.grads[0]).all().item<bool>());
}

Op error(bool squared) {
  return [squared](const Tensors& t) {
    return squared ? squared_error(t[0], t[1], 0.25) : absolute_error(t[0], t[1], 0.25);
  };
}
Op aten_error(bool squared) {
  return [squared](const Tensors& t) {
    const Tensor d = t[0] - t[1];
    return (squared ? d * d : d.abs()).sum() * 0.25;
  };
}

TEST(Errors, MatchAten) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const bool squared : {true, false}) {
      for (const int64_t rows : {1, 7, 1000, 5000}) {
        expect_same(error(squared), aten_error(squared),
                    {normal({rows, 8}, 1), normal({rows, 8}, 2)}, dtype, std::to_string(rows));
      }
      EXPECT_EQ(
          error(squared)(leaves({normal({2}, 1), normal({2}, 2)}, at::kBFloat16)).scalar_type(),
          at::kFloat);
    }
  }
  expect_same(error(true), aten_error(true), {normal({5, 6}, 1).t(), normal({6, 5}, 2)},
              at::kDouble, "strided");
}

TEST(Errors, EqualValuesHaveNoSlope) {
  auto t = leaves({at::ones({4}), at::ones({4})}, at::kFloat);
  const Outcome outcome = run(error(false), t, at::ones({}));
  EXPECT_EQ(outcome.y.item<double>(), 0);
  for (const Tensor& grad : outcome.grads) EXPECT_TRUE(at::equal(grad, at::zeros({4})));
}

// As in PyTorch, whose sign of a NaN is 0, the slope of |NaN| is 0: the loss itself shows it.
TEST(Errors, NanReachesTheResultAndSquaredErrorsGradient) {
  for (const bool squared : {true, false}) {
    Tensor x = at::ones({100});
    x[3].fill_(std::nan(""));
    at_every_level([&] {
      auto t = leaves({x, at::zeros({100})}, at::kFloat);
      const Outcome outcome = run(error(squared), t, at::ones({}));
      EXPECT_TRUE(std::isnan(outcome.y.item<double>()));
      EXPECT_EQ(std::isnan(outcome.grads[0][3].item<double>()), squared);
      EXPECT_FALSE(std::isnan(outcome.grads[0][4].item<double>()));
    });
  }
}

TEST(Errors, OnlyWhoNeedsOneGetsAGradient) {
  for (const bool squared : {true, false}) {
    auto t = leaves({normal({4}, 1), normal({4}, 2)}, at::kFloat);
    error(squared)({t[0].detach(), t[1]}).backward();
    EXPECT_TRUE(t[1].grad().defined());
    EXPECT_FALSE(error(squared)({t[0].detach(), t[1].detach()}).requires_grad());
  }
}

TEST(Vq, NothingIsLegal) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const bool squared : {true, false}) {
      auto t = leaves({normal({0, 8}, 1), normal({0, 8}, 2)}, dtype);
      const Outcome outcome = run(error(squared), t, at::ones({}));
      EXPECT_EQ(outcome.y.item<double>(), 0);
      for (const Tensor& grad : outcome.grads) EXPECT_EQ(grad.sizes(), (at::IntArrayRef{0, 8}));
    }
    auto t = leaves({normal({0, 8}, 1)}, dtype);
    EXPECT_EQ(run(normalized, t, at::empty({0, 8})).grads[0].sizes(), (at::IntArrayRef{0, 8}));
  }
}

TEST(Vq, RefusesWhatDoesNotFit) {
  const Tensor x = at::ones({2, 8});
  EXPECT_THROW(nearest_code(x, at::ones({3, 7})), Error);
  EXPECT_THROW(nearest_code(x, at::ones({0, 8})), Error);
  EXPECT_THROW(nearest_code(x, at::ones({3, 8}, at::kDouble)), Error);
  EXPECT_THROW(nearest_code(x[0], x), Error);
  EXPECT_THROW(l2_normalize(at::ones({2, 8}, at::kHalf)), Error);
  EXPECT_THROW(squared_error(x, at::ones({2, 7}), 1), Error);
  EXPECT_THROW(absolute_error(x, at::ones({2, 8}, at::kDouble), 1), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
