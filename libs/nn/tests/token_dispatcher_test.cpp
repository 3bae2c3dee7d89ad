// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/token_dispatcher.h"

#include <gmock/gmock.h>

#include <torch/csrc/autograd/autograd.h>

#include "veomni/ops/compare.h"

namespace veomni::nn {
namespace {

constexpr int64_t kTokens = 9, kExperts = 5, kActive = 2, kWidth = 4;

// Every expert multiplies by its own number: a dense loop gives the expected result.
TEST(LocalDispatcher, EqualsADenseLoop) {
  auto x = torch::randn({kTokens, kWidth}, torch::kDouble).requires_grad_();
  auto score = torch::randn({kTokens, kExperts}, torch::kDouble);
  LocalDispatcher dispatcher(kExperts);
  Routing routing{dispatcher.choose(score, kActive, nullptr),
                  torch::rand({kTokens, kActive}, torch::kDouble)};
  routing.weight_TA.requires_grad_();

  auto sent = dispatcher.dispatch(x, routing);
  std::vector<torch::Tensor> parts;
  int64_t begin = 0;
  for (int64_t e = 0; e < kExperts; ++e) {
    const int64_t end = sent.end_E[e].item<int64_t>();
    parts.push_back(sent.rows_CD.narrow(0, begin, end - begin) * static_cast<double>(e + 1));
    begin = end;
  }
  EXPECT_EQ(begin, kTokens * kActive);
  auto y = dispatcher.combine(torch::cat(parts), sent);
  auto factor = (routing.weight_TA * (routing.expert_TA + 1).to(torch::kDouble)).sum(1, true);
  EXPECT_LE(ops::relative_error(y, x * factor), 1e-14);
  EXPECT_EQ(sent.load_E.sum().item<double>(), kTokens * kActive);

  auto got = torch::autograd::grad({y.sin().sum()}, {x, routing.weight_TA});
  auto want = torch::autograd::grad({(x * factor).sin().sum()}, {x, routing.weight_TA});
  EXPECT_LE(ops::relative_error(got[0], want[0]), 1e-13);
  EXPECT_LE(ops::relative_error(got[1], want[1]), 1e-13);
}

TEST(LocalDispatcher, NoTokensIsLegal) {
  LocalDispatcher dispatcher(kExperts);
  auto x = torch::zeros({0, kWidth}).requires_grad_();
  Routing routing{torch::zeros({0, kActive}, torch::kLong), torch::zeros({0, kActive})};
  auto sent = dispatcher.dispatch(x, routing);
  EXPECT_EQ(dispatcher.combine(sent.rows_CD, sent).sizes(), torch::IntArrayRef({0, kWidth}));
}

}  // namespace
}  // namespace veomni::nn
