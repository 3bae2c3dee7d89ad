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
