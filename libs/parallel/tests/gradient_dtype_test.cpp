// SPDX-License-Identifier: Apache-2.0
/// What autograd does with gradients of narrow parameters: the ground under nn::Parameter and
/// fully_shard.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "veomni/nn/parameter.h"

namespace veomni::parallel {
namespace {

/// A weight-gradient kernel that returns fp32, as ours do.
struct WideGradient : torch::autograd::Function<WideGradient> {
  static torch::Tensor forward(torch::autograd::AutogradContext*, const torch::Tensor& weight) {
    return weight.sum();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list g) {
    auto gradient = torch::full({4}, 1.0f).mul_(g[0].to(torch::kFloat));
    last_data = gradient.data_ptr();
    return {gradient};
  }
  static void* last_data;
};
void* WideGradient::last_data = nullptr;

nn::Parameter narrow() {
  nn::Parameter parameter({4}, {.dtype = torch::kBFloat16}, nn::Init::zeros());
  parameter.value().detach().zero_();
  return parameter;
}

TEST(GradientDtype, AFreshWideGradientIsTakenOverWithoutACopy) {
  auto parameter = narrow();
  WideGradient::apply(parameter.value()).backward();
  EXPECT_EQ(parameter.grad().scalar_type(), torch::kFloat);
  EXPECT_EQ(parameter.grad().data_ptr(), WideGradient::last_data);
}

TEST(GradientDtype, TwoUsesInOneGraphAreSummedWide) {
  auto parameter = narrow();
  // 1 + 2^-10 has no bf16: it survives only in an fp32 sum.
  const float small = 1.0f / 1024;
  (WideGradient::apply(parameter.value()).to(torch::kFloat) +
   WideGradient::apply(parameter.value()).to(torch::kFloat) * small)
      .backward();
  EXPECT_TRUE(torch::equal(parameter.grad(), torch::full({4}, 1.0f + small)));
}

TEST(GradientDtype, NarrowGradientsAreSummedWideOverMicroBatches) {
  auto parameter = narrow();
  for (float factor : {1.0f, 1.0f / 1024}) (parameter.value() * factor).sum().backward();
  EXPECT_EQ(parameter.grad().scalar_type(), torch::kFloat);
  EXPECT_TRUE(torch::equal(parameter.grad(), torch::full({4}, 1.0f + 1.0f / 1024)));
}

}  // namespace
}  // namespace veomni::parallel
