// SPDX-License-Identifier: Apache-2.0
// The list of ATen calls that models may make beside this library: views and pointwise operations
// that run forward and backward on meta and take the same bytes there as on the CPU. A call a model
// needs is added here first; one that fails here gets an op of its own.
#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/ops/allocation_count.h"

namespace veomni::ops::testing {
namespace {

struct Allowed {
  const char* name;
  Op call;          ///< on two [6, 4] tensors
  int numbers = 0;  ///< C++ numbers among the operands of its forward and backward
};

// On the CPU a number becomes a float64 tensor of one element and is cast to the other operand's
// dtype; on meta that happens on the CPU. Models whose bytes must agree to the last one fold
// numbers into this library's ops.
constexpr int64_t kNumberBytes = 12;

const std::vector<Allowed>& allowed() {
  static const std::vector<Allowed> list = {
      {"add", [](const Tensors& t) { return t[0] + t[1]; }},
      {"add scalar", [](const Tensors& t) { return t[0] + 2; }, 1},
      {"sub", [](const Tensors& t) { return t[0] - t[1]; }},
      {"mul", [](const Tensors& t) { return t[0] * t[1]; }},
      {"mul scalar", [](const Tensors& t) { return t[0] * 2; }, 2},
      {"div", [](const Tensors& t) { return t[0] / t[1]; }},
      {"neg", [](const Tensors& t) { return -t[0]; }},
      {"exp", [](const Tensors& t) { return t[0].exp(); }},
      {"sigmoid", [](const Tensors& t) { return t[0].sigmoid(); }},
      {"tanh", [](const Tensors& t) { return t[0].tanh(); }},
      {"square root", [](const Tensors& t) { return t[0].sqrt(); }, 1},
      {"pow", [](const Tensors& t) { return t[0].pow(2); }, 1},
      {"broadcast mul", [](const Tensors& t) { return t[0] * t[1].slice(0, 0, 1); }},
      {"sum", [](const Tensors& t) { return t[0].sum(); }},
      {"sum of a dimension", [](const Tensors& t) { return t[0].sum(1); }},
      {"mean", [](const Tensors& t) { return t[0].mean(); }, 2},
      {"view",
       [](const Tensors& t) {
         return t[0].view({2, 3, 4});
       }},
      {"reshape",
       [](const Tensors& t) {
         return t[0].t().reshape({3, 8});
       }},
      {"unsqueeze, squeeze", [](const Tensors& t) { return t[0].unsqueeze(1).squeeze(1); }},
      {"slice", [](const Tensors& t) { return t[0].slice(1, 1, 3); }},
      {"narrow", [](const Tensors& t) { return t[0].narrow(0, 2, 3); }},
      {"select", [](const Tensors& t) { return t[0].select(1, 2); }},
      {"split", [](const Tensors& t) { return t[0].split(2, 1)[1]; }},
      {"chunk", [](const Tensors& t) { return t[0].chunk(2, 0)[0]; }},
      {"unbind", [](const Tensors& t) { return t[0].unbind(1)[3]; }},
      {"cat",
       [](const Tensors& t) {
         return at::cat({t[0], t[1]}, 1);
       }},
      {"stack",
       [](const Tensors& t) {
         return at::stack({t[0], t[1]});
       }},
      {"transpose", [](const Tensors& t) { return t[0].transpose(0, 1).contiguous(); }},
      {"permute",
       [](const Tensors& t) {
         return t[0].view({2, 3, 4}).permute({2, 0, 1}).contiguous();
       }},
      {"contiguous", [](const Tensors& t) { return t[0].t().contiguous(); }},
      {"expand",
       [](const Tensors& t) {
         return t[0].unsqueeze(0).expand({3, 6, 4}).contiguous();
       }},
      {"clone", [](const Tensors& t) { return t[0].clone(); }},
      {"to another dtype", [](const Tensors& t) { return t[0].to(at::kDouble); }},
      {"zeros_like", [](const Tensors& t) { return t[0] * at::zeros_like(t[1]); }},
      {"detach", [](const Tensors& t) { return t[0] * t[1].detach(); }},
  };
  return list;
}

AllocationStats measure(const Allowed& allowed, c10::DeviceType device) {
  const auto options = at::device(device).dtype(at::kFloat);
  const Tensors inputs = {at::ones({6, 4}, options).set_requires_grad(true),
                          at::ones({6, 4}, options).set_requires_grad(true)};
  const AllocationCounter counter;
  const Tensor y = allowed.call(inputs);
  torch::autograd::backward({y}, {at::ones(y.sizes(), y.options())});
  EXPECT_TRUE(inputs[0].grad().defined()) << allowed.name;
  return counter.stats(device);
}

TEST(AtenAllowed, RunsOnMetaWithTheBytesOfTheCpu) {
  for (const Allowed& call : allowed()) {
    SCOPED_TRACE(call.name);
    AllocationStats meta;
    ASSERT_NO_THROW(meta = measure(call, c10::kMeta));
    const int64_t more = measure(call, c10::kCPU).total_bytes - meta.total_bytes;
    EXPECT_GE(more, 0);
    EXPECT_LE(more, call.numbers * kNumberBytes);
  }
}

}  // namespace
}  // namespace veomni::ops::testing
