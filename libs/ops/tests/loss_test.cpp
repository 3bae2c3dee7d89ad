// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/loss.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/base/error.h"

namespace veomni::ops::testing {
namespace {

// Every token with the same weight.
Tensor even_loss(const Tensor& x, const Tensor& weight, const Tensor& labels, double scale,
                 int64_t chunk = 0) {
  return linear_cross_entropy(x, weight, labels, at::full({labels.size(0)}, scale, at::kDouble),
                              chunk)
      .total;
}

Tensor loss_reference(const Tensor& x, const Tensor& weight, const Tensor& labels, double scale) {
  return at::cross_entropy_loss(at::mm(x, weight.t()), labels, {}, at::Reduction::Sum) * scale;
}

/// Every third label ignored, in runs and alone.
Tensor some_labels(int64_t tokens, int64_t vocabulary) {
  Tensor labels = integers(tokens, vocabulary, 7);
  for (int64_t t = 0; t < tokens; ++t) {
    if (t % 7 == 1 || t % 7 == 2 || t % 11 == 5) labels[t].fill_(kIgnoreLabel);
  }
  return labels;
}

TEST(LinearCrossEntropy, MatchesAtenWhateverTheChunk) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const auto& [tokens, width, vocabulary, chunk] :
         std::vector<std::array<int64_t, 4>>{{1, 8, 5, 0},
                                             {7, 24, 33, 3},
                                             {33, 72, 300, 8},
                                             {100, 64, 501, 0},
                                             {100, 64, 501, 64}}) {
      const Tensor labels = some_labels(tokens, vocabulary);
      const double scale = 1.0 / 57;
      // bfloat16 logits of size √D · 0.3 carry an absolute error of 2^-9 of themselves, which the
      // softmax turns into a relative error of the probabilities of the same size; with it and the
      // rounded gradient the usual bound holds.
      expect_same([&](const Tensors& t) { return even_loss(t[0], t[1], labels, scale, chunk); },
                  [&](const Tensors& t) { return loss_reference(t[0], t[1], labels, scale); },
                  {normal({tokens, width}, 1), 0.3 * normal({vocabulary, width}, 2)}, dtype,
                  std::to_string(tokens) + " tokens, chunk " + std::to_string(chunk));
    }
  }
}

TEST(LinearCrossEntropy, EveryTokenHasItsWeightAndEveryCodeItsBias) {
  for (const at::ScalarType dtype : kDtypes) {
    const Tensor labels = some_labels(33, 50);
    const Tensor weights = normal({33}, 4);
    expect_same(
        [&](const Tensors& t) {
          return linear_cross_entropy(t[0], t[1], labels, weights, 10, t[2]).total;
        },
        [&](const Tensors& t) {
          const Tensor logits = at::addmm(t[2], t[0], t[1].t());
          const Tensor each =
              at::cross_entropy_loss(logits, labels, {}, at::Reduction::None, kIgnoreLabel);
          return (each * weights.to(each.scalar_type())).sum();
        },
        {normal({33, 24}, 1), 0.3 * normal({50, 24}, 2), normal({50}, 3)}, dtype, "weights, bias");
  }
}

TEST(LinearCrossEntropy, TokenLossesAreThoseOfPerToken) {
  const Tensor labels = some_labels(33, 50);
  auto t = leaves({normal({33, 24}, 1), normal({50, 24}, 2)}, at::kFloat);
  const auto loss = linear_cross_entropy(t[0], t[1], labels, normal({33}, 4));
  EXPECT_FALSE(loss.token_T.requires_grad());
  EXPECT_TRUE(loss.token_T.equal(linear_cross_entropy_per_token(t[0], t[1], labels)));
}

TEST(LinearCrossEntropy, ScalesWithTheIncomingGradient) {
  const Tensor labels = some_labels(33, 50);
  expect_same([&](const Tensors& t) { return even_loss(t[0], t[1], labels, 0.5, 10) * 3; },
              [&](const Tensors& t) { return loss_reference(t[0], t[1], labels, 0.5) * 3; },
              {normal({33, 24}, 1), normal({50, 24}, 2)}, at::kDouble, "times 3");
}

TEST(LinearCrossEntropy, NoCountedLabelIsAnExactZeroInTheGraph) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const int64_t tokens : {0, 9}) {
      const Tensor labels = at::full({tokens}, kIgnoreLabel, at::kLong);
      auto t = leaves({normal({tokens, 8}, 1), normal({5, 8}, 2)}, dtype);
      const Tensor loss = even_loss(t[0], t[1], labels, 1);
      EXPECT_EQ(loss.item<double>(), 0);
      loss.backward();
      EXPECT_TRUE(at::equal(t[0].grad(), at::zeros_like(t[0].grad())));
      EXPECT_TRUE(at::equal(t[1].grad(), at::zeros_like(t[1].grad())));
    }
  }
}

TEST(LinearCrossEntropy, TiedWeightSumsInFloat) {
  auto t = leaves({normal({6, 8}, 1)}, at::kBFloat16);
  const Tensor x = normal({20, 8}, 2).to(at::kBFloat16), labels = integers(20, 6, 3);
  (even_loss(x, t[0], labels, 1) + even_loss(x, t[0], labels, 1)).backward();
  const Tensor twice = t[0].grad().clone();
  auto once = leaves({normal({6, 8}, 1)}, at::kBFloat16);
  even_loss(x, once[0], labels, 1).backward();
  ASSERT_EQ(twice.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(twice, 2 * once[0].grad()));
}

TEST(LinearCrossEntropy, FrozenInputsAndNoGrad) {
  const Tensor labels = integers(9, 5, 3);
  auto t = leaves({normal({9, 8}, 1), normal({5, 8}, 2)}, at::kFloat);
  even_loss(t[0], t[1].detach(), labels, 1).backward();
  EXPECT_TRUE(t[0].grad().defined());
  EXPECT_FALSE(t[1].grad().defined());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(even_loss(t[0], t[1], labels, 1).requires_grad());
}

TEST(LinearCrossEntropy, BackwardRunsOnce) {
  auto t = leaves({normal({9, 8}, 1), normal({5, 8}, 2)}, at::kFloat);
  const Tensor loss = even_loss(t[0], t[1], integers(9, 5, 3), 1);
  loss.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(loss.backward(), Error);
}

TEST(LinearCrossEntropy, NanReachesTheLoss) {
  for (const at::ScalarType dtype : kDtypes) {
    Tensor x = normal({4, 8}, 1).to(dtype);
    x[2][5].fill_(std::nan(""));
    EXPECT_TRUE(
        std::isnan(even_loss(x, normal({5, 8}, 2).to(dtype), integers(4, 5, 3), 1).item<double>()));
  }
}

TEST(LinearCrossEntropy, NamesALabelOutOfRange) {
  const Tensor x = at::ones({2, 8}), weight = at::ones({5, 8});
  for (const int64_t bad : {-1, 5, -101}) {
    EXPECT_THROW(even_loss(x, weight, at::tensor({int64_t{0}, bad}), 1), Error) << bad;
  }
  EXPECT_THROW(even_loss(x, weight, at::zeros({3}, at::kLong), 1), Error);
}

TEST(LinearCrossEntropy, RefusesWeightsAndBiasThatDoNotFit) {
  const Tensor x = at::ones({2, 8}), weight = at::ones({5, 8}), labels = at::zeros({2}, at::kLong);
  const Tensor weights = at::ones({2}, at::kDouble);
  const auto loss = [&](const Tensor& w, const Tensor& bias) {
    return linear_cross_entropy(x, weight, labels, w, 0, bias).total;
  };
  EXPECT_NO_THROW(loss(weights, at::ones({5})));
  EXPECT_THROW(loss(at::ones({3}), {}), Error);
  EXPECT_THROW(loss(at::ones({2}, at::kLong), {}), Error);
  EXPECT_THROW(loss({}, {}), Error);
  EXPECT_THROW(loss(weights, at::ones({4})), Error);
  EXPECT_THROW(loss(weights, at::ones({5, 1})), Error);
  EXPECT_THROW(loss(weights, at::ones({5}, at::kDouble)), Error);
}

TEST(LinearCrossEntropyPerToken, MatchesAtenAndSumsToTheLoss) {
  for (const at::ScalarType dtype : kDtypes) {
    const Tensor labels = some_labels(33, 50);
    const Tensor x = normal({33, 24}, 1).to(dtype), weight = (0.3 * normal({50, 24}, 2)).to(dtype);
    const Tensor losses = linear_cross_entropy_per_token(x, weight, labels);
    const Tensor expected = at::cross_entropy_loss(
        at::mm(x.to(at::kDouble), weight.to(at::kDouble).t()), labels, {}, at::Reduction::None);
    EXPECT_EQ(losses.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
    EXPECT_LE(relative_error(losses, expected), tolerance(dtype));
    EXPECT_TRUE(at::equal(losses.ne(0), labels.ne(kIgnoreLabel)));
    EXPECT_NEAR(losses.to(at::kDouble).sum().item<double>(),
                even_loss(x, weight, labels, 1).item<double>(), 1e-4);
  }
}

}  // namespace
}  // namespace veomni::ops::testing
