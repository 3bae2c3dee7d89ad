// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/module.h"

#include <gmock/gmock.h>

#include "veomni/base/error.h"
#include "veomni/nn/layers.h"

namespace veomni::nn {
namespace {

class Tied : public Module {
 public:
  Tied() : embedding_(8, 4, Init::normal(1), {}), norm_(4, 1e-6, {}) {
    child("embedding", embedding_);
    child("norm", norm_);
    parameter("head.weight", embedding_.weight());
  }

 private:
  Embedding embedding_;
  RmsNorm norm_;
};

// A module's own parameters come before its children's, so a tied weight goes by the outer name.
TEST(Module, NamesEveryParameterOnceInOrder) {
  Tied model;
  std::vector<std::string> names;
  for (const auto& [name, parameter] : model.named_parameters("root")) names.push_back(name);
  EXPECT_THAT(names, testing::ElementsAre("root.head.weight", "root.norm.weight"));
}

TEST(Module, AssignNamesReachesTheHandles) {
  Tied model;
  assign_names(model, "m");
  EXPECT_EQ(model.named_parameters()[1].second.name(), "m.norm.weight");
}

TEST(Parameter, CopiesShareTheTensor) {
  Parameter a({2, 3}, {}, Init::zeros());
  Parameter b = a;
  b.replace_value(torch::ones({2, 3}));
  EXPECT_TRUE(torch::equal(a.value(), torch::ones({2, 3})));
  EXPECT_TRUE(a.value().requires_grad());
  EXPECT_EQ(a.id(), b.id());
}

TEST(Parameter, ReplacingKeepsFrozen) {
  Parameter a({2}, {}, Init::zeros());
  a.set_trainable(false);
  a.replace_value(torch::ones({2}));
  EXPECT_FALSE(a.trainable());
}

TEST(Parameter, BFloat16GradientsAccumulateInFloat32) {
  Parameter p({1}, {torch::kCPU, torch::kBFloat16}, Init::zeros());
  p.replace_value(torch::ones({1}, torch::kBFloat16));
  // 1 + 2^-10 needs more than bf16's 8 bits: the sum must not be rounded to bf16 on the way.
  auto first = p.value() * torch::ones({1}, torch::kBFloat16);
  first.backward(torch::ones({1}, torch::kBFloat16));
  auto second = p.value() * torch::ones({1}, torch::kBFloat16);
  second.backward(torch::full({1}, 0x1.0p-10, torch::kBFloat16));
  ASSERT_EQ(p.grad().scalar_type(), torch::kFloat);
  EXPECT_EQ(p.grad().item<float>(), 1.0f + 0x1.0p-10f);
}

TEST(Parameter, AssignWritesMasterAndCopy) {
  Parameter p({2}, {torch::kCPU, torch::kBFloat16}, Init::zeros());
  p.replace_local(torch::zeros({2}, torch::kBFloat16), torch::zeros({2}));
  p.assign_local(torch::full({2}, 1.001f));
  EXPECT_EQ(p.master()[0].item<float>(), 1.001f);
  EXPECT_EQ(p.local()[0].item<float>(),
            torch::full({1}, 1.001f).to(torch::kBFloat16).item<float>());
  EXPECT_THROW(p.assign_local(torch::zeros({3})), Error);
}

}  // namespace
}  // namespace veomni::nn
