// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/activation.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/base/error.h"

namespace veomni::ops::testing {
namespace {

Tensor swiglu_reference(const Tensors& t) {
  const auto halves = t[0].chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

struct Case {
  const char* name;
  Op ours, reference;
};
const std::vector<Case> kCases = {
    {"swiglu", [](const Tensors& t) { return ops::swiglu(t[0]); }, swiglu_reference},
    {"gelu", [](const Tensors& t) { return ops::gelu(t[0], false); },
     [](const Tensors& t) { return at::gelu(t[0]); }},
    {"quick gelu", [](const Tensors& t) { return ops::quick_gelu(t[0]); },
     [](const Tensors& t) { return t[0] * (1.702 * t[0]).sigmoid(); }},
    {"gelu tanh", [](const Tensors& t) { return ops::gelu(t[0], true); },
     [](const Tensors& t) { return at::gelu(t[0], "tanh"); }},
    {"silu", [](const Tensors& t) { return ops::silu(t[0]); },
     [](const Tensors& t) { return at::silu(t[0]); }},
};

TEST(Activation, MatchesAtenAtEveryLevel) {
  for (const Case& c : kCases) {
    for (const at::ScalarType dtype : kDtypes) {
      for (const auto& [rows, width] :
           std::vector<std::array<int64_t, 2>>{{1, 8}, {7, 24}, {33, 72}, {150, 512}}) {
        expect_same(c.ours, c.reference, {3 * normal({rows, 2 * width}, 1)}, dtype, c.name);
      }
      expect_same(c.ours, c.reference, {normal({3, 5, 16}, 1).transpose(0, 1)}, dtype, c.name);
    }
  }
}

TEST(Activation, ExtremesStayFinite) {
  at_every_level([] {
    for (const at::ScalarType dtype : kDtypes) {
      const Tensor x = at::tensor({-1e4, -200.0, -90.0, 90.0, 200.0, 1e4, 0.0, -0.0}, at::kDouble);
      for (const Case& c : kCases) {
        const Outcome outcome =
            run(c.ours, leaves({x}, dtype), c.ours({x.to(dtype)}).mul(0).add(1));
        EXPECT_TRUE(at::isfinite(outcome.y).all().item<bool>()) << c.name;
        EXPECT_TRUE(at::isfinite(outcome.grads[0]).all().item<bool>()) << c.name;
      }
    }
  });
}

TEST(Activation, NanStaysNan) {
  at_every_level([] {
    const Tensor bits = at::tensor({0x7fc00000, 0x7fffffff, -1, 0x7fff0000, -0x10000}, at::kInt);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const Tensor nan = bits.view(at::kFloat).repeat({8}).to(dtype);  // vectors and a remainder
      for (const Case& c : kCases) {
        const Outcome outcome = run(c.ours, leaves({nan}, dtype), at::ones_like(c.ours({nan})));
        EXPECT_TRUE(at::isnan(outcome.y).all().item<bool>()) << c.name;
        EXPECT_TRUE(at::isnan(outcome.grads[0]).all().item<bool>()) << c.name;
      }
    }
  });
}

// Value by value: Φ is off by 1.6e-7, and the product with x is rounded once.
TEST(Activation, GeluHoldsItsErrorEverywhere) {
  const Tensor x = at::arange(-140000, 140001, at::kDouble).mul(1e-4).to(at::kFloat);
  const Tensor want = at::gelu(x.to(at::kDouble));
  at_every_level([&] {
    const Tensor off = (gelu(x, false).to(at::kDouble) - want).abs();
    EXPECT_TRUE((off <= (1.6e-7 + 0.6e-7) * x.abs()).all().item<bool>())
        << (off / x.abs()).nan_to_num().max();
    EXPECT_EQ(gelu(x.slice(0, 0, 8000), false).abs().max().item<float>(), 0);  // below -13.2
  });
}

TEST(Activation, NoRows) {
  for (const Case& c : kCases) {
    const Tensor y = c.ours({at::empty({0, 8})});
    const Outcome outcome = run(c.ours, leaves({at::empty({0, 8})}, at::kFloat), y);
    EXPECT_EQ(outcome.grads[0].sizes(), (at::IntArrayRef{0, 8})) << c.name;
  }
  EXPECT_THROW(ops::swiglu(at::ones({2, 7})), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
