// SPDX-License-Identifier: Apache-2.0
#include "kernel_work.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "veomni/base/context.h"
#include "veomni/base/trace.h"
#include "veomni/ops/attention.h"
#include "veomni/ops/linear.h"
#include "veomni/ops/norm.h"

namespace veomni::ops {
namespace {

kernels::AttentionShape attention(const std::vector<int32_t>& cu_q,
                                  const std::vector<int32_t>& cu_k, bool causal, int64_t left,
                                  int64_t right) {
  return {.heads = 3,
          .kv_heads = 1,
          .k_width = 4,
          .v_width = 5,
          .segments = static_cast<int64_t>(cu_q.size()) - 1,
          .cu_q = cu_q.data(),
          .cu_k = cu_k.data(),
          .scale = 1,
          .softcap = 0,
          .causal = causal,
          .window_left = left,
          .window_right = right};
}

double forward_flops(const kernels::AttentionShape& shape) {
  kernels::AttentionForward args{};
  args.shape = shape;
  return flops_of(args);
}

TEST(KernelWork, CountsOnlyVisiblePairs) {
  const std::vector<int32_t> two = {0, 3, 5}, one = {0, 2}, longer = {0, 5};
  const double per_pair = 2 * 3 * (4 + 5);
  EXPECT_EQ(forward_flops(attention(two, two, true, -1, -1)), per_pair * (6 + 3));
  EXPECT_EQ(forward_flops(attention(two, two, false, -1, -1)), per_pair * (9 + 4));
  // Two new queries behind three cached keys see 4 and 5 keys; with a window of 1 to the left, 2 and 2.
  EXPECT_EQ(forward_flops(attention(one, longer, true, -1, -1)), per_pair * 9);
  EXPECT_EQ(forward_flops(attention(one, longer, true, 1, -1)), per_pair * 4);
  EXPECT_EQ(forward_flops(attention(two, two, false, 0, 1)), per_pair * (5 + 3));
}

TEST(KernelWork, CountsProductsAndConvolutions) {
  kernels::MatMul product{};
  product.m = 2, product.n = 3, product.k = 5;
  EXPECT_EQ(flops_of(product), 60);
  EXPECT_STREQ(name_of(product), "MatMul");
  kernels::GroupedMatMul grouped{};
  grouped.groups = 4, grouped.m = 2, grouped.n = 3, grouped.k = 5;
  EXPECT_EQ(flops_of(grouped), 60);
  kernels::Convolve convolution{};
  convolution.shape = {.pictures = 2,
                       .height = 4,
                       .width = 4,
                       .channels = 3,
                       .out_height = 4,
                       .out_width = 4,
                       .features = 5,
                       .kernel_h = 3,
                       .kernel_w = 3,
                       .pad_top = 1,
                       .pad_left = 1};
  EXPECT_EQ(flops_of(convolution), 2.0 * 2 * 16 * 5 * 3 * 9);
  EXPECT_EQ(flops_of(kernels::AddBias{}), 0);
}

class OpSpans : public testing::TestWithParam<LinearBackend> {};

// Each op once forward and once backward, around its kernels, whoever multiplies.
TEST_P(OpSpans, EveryOpForwardAndBackward) {
  const ThreadContextScope scope({.label = "", .primary = true, .worker = 77});
  const LinearBackend before = linear_backend();
  set_linear_backend(GetParam());
  auto x = torch::ones({4, 6}).set_requires_grad(true);
  auto weight = torch::ones({6}).set_requires_grad(true);
  auto matrix = torch::ones({2, 6}).set_requires_grad(true);
  trace::start();
  ops::linear(ops::rms_norm(x, weight, 1e-6), matrix).sum().backward();
  trace::stop();
  set_linear_backend(before);
  const auto taken = trace::take(77);
  ASSERT_EQ(taken.size(), 1u);
  std::vector<std::string> ops;
  double flops = 0;
  for (const auto& event : taken[0].events) {
    if (event.category == trace::Category::kOp)
      ops.push_back(std::string(event.name) + " " + event.pass);
    flops += event.flops;
  }
  EXPECT_THAT(ops, testing::ElementsAre("rms_norm forward", "linear forward", "linear backward",
                                        "rms_norm backward"));
  EXPECT_EQ(flops, 3 * 2.0 * 4 * 6 * 2);
}
INSTANTIATE_TEST_SUITE_P(All, OpSpans, testing::Values(LinearBackend::kOwn, LinearBackend::kBlas));

}  // namespace
}  // namespace veomni::ops
