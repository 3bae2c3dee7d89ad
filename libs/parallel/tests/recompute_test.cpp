// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/recompute.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "veomni/base/error.h"

namespace veomni::parallel {
namespace {

using ::testing::HasSubstr;

class Square : public nn::Unit {
 public:
  Square()
      : weight_(
            parameter("weight", nn::Parameter({3}, {.dtype = torch::kDouble}, nn::Init::ones()))) {
    weight_.value().detach().fill_(2);
  }
  Tensors forward(Tensors inputs) {
    return run(std::move(inputs), [this](const Tensors& in) {
      ++calls;
      const auto y = in[0] * weight_.value();
      return Tensors{y * y, y.detach(), in[0].sum()};
    });
  }
  nn::Parameter weight() { return weight_; }
  int calls = 0;

 private:
  nn::Parameter weight_;
};

torch::Tensor input(bool needs_grad) {
  return torch::tensor({1.0, 2.0, 3.0}, torch::kDouble).set_requires_grad(needs_grad);
}

TEST(Recompute, RunsTheBodyAgainInBackward) {
  Square unit;
  recompute_unit(unit);
  auto x = input(true);
  auto loss = unit.forward({x})[0].sum();
  EXPECT_EQ(unit.calls, 1);
  loss.backward();
  EXPECT_EQ(unit.calls, 2);
  EXPECT_TRUE(torch::equal(x.grad(), 8 * x.detach()));
  EXPECT_TRUE(torch::equal(unit.weight().grad(), 4 * x.detach().square()));
}

TEST(Recompute, TrainsWhenNoInputNeedsAGradient) {
  Square unit;
  recompute_unit(unit);
  unit.forward({input(false)})[0].sum().backward();
  EXPECT_EQ(unit.calls, 2);
  EXPECT_TRUE(unit.weight().grad().defined());
}

TEST(Recompute, OutputsThatDependOnNothingTrainableGetNoGradient) {
  Square unit;
  recompute_unit(unit);
  auto x = input(true);
  // The second output is detached in the body, the third does not see the weight.
  auto out = unit.forward({x});
  (out[1].sum() + out[2]).backward();
  EXPECT_TRUE(torch::equal(x.grad(), torch::ones_like(x)));
  EXPECT_TRUE(torch::equal(unit.weight().grad(), torch::zeros({3}, torch::kDouble)))
      << "an output without a gradient counts as zero";
}

TEST(Recompute, CostsNothingWhereNothingTrains) {
  Square unit;
  unit.weight().set_trainable(false);
  recompute_unit(unit);
  EXPECT_FALSE(unit.forward({input(false)})[0].requires_grad());
  torch::NoGradGuard no_grad;
  EXPECT_FALSE(unit.forward({input(true)})[0].requires_grad());
  EXPECT_EQ(unit.calls, 2);
}

TEST(Recompute, SeesInputsThatChanged) {
  Square unit;
  recompute_unit(unit);
  auto x = input(false);
  auto loss = unit.forward({x})[0].sum();
  x.add_(1);
  try {
    loss.backward();
    FAIL();
  } catch (const c10::Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("modified by an inplace operation"));
  }
}

TEST(Recompute, AttachesOnce) {
  Square unit;
  recompute_unit(unit);
  EXPECT_THROW(recompute_unit(unit), Error);
}

}  // namespace
}  // namespace veomni::parallel
