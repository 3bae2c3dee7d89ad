// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/rows.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/base/error.h"
#include "veomni/ops/embedding.h"

namespace veomni::ops::testing {
namespace {

TEST(Embedding, MatchesAtenWithFloatGradients) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const auto& [tokens, width] :
         std::vector<std::array<int64_t, 2>>{{1, 8}, {7, 24}, {33, 72}, {300, 512}}) {
      const Tensor ids = integers(tokens, 20, 5);  // with repeats
      const Op ours = [&](const Tensors& t) { return ops::embedding(ids.to(at::kInt), t[0]); };
      expect_same(
          ours, [&](const Tensors& t) { return at::index_select(t[0], 0, ids); },
          {normal({23, width}, 1)}, dtype, "width " + std::to_string(width));
    }
  }
  auto t = leaves({at::ones({2, 8})}, at::kBFloat16);
  ops::embedding(at::zeros({1000}, at::kLong), t[0]).sum().backward();
  ASSERT_EQ(t[0].grad().scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(t[0].grad()[0], at::full({8}, 1000.0f)));  // a bfloat16 sum stops at 256
}

TEST(Embedding, NamesAnIdOutOfRange) {
  const Tensor weight = at::ones({4, 8});
  for (const int64_t bad : {int64_t{-1}, int64_t{4}, int64_t{1} << 40}) {
    try {
      ops::embedding(at::tensor({int64_t{0}, bad}), weight);
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("ids[1] = " + std::to_string(bad)),
                std::string::npos)
          << error.what();
    }
  }
  EXPECT_THROW(ops::embedding(at::ones({2}), weight), Error);
}

TEST(Embedding, NoTokensGiveAZeroGradient) {
  auto t = leaves({normal({5, 8}, 1)}, at::kFloat);
  run([](const Tensors& t) { return ops::embedding(at::empty({0}, at::kLong), t[0]); }, t,
      at::empty({0, 8}));
  EXPECT_TRUE(at::equal(t[0].grad(), at::zeros({5, 8})));
}

TEST(Rows, MatchAtenAtEveryLevel) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const int64_t width : {8, 24, 72, 512}) {
      const Tensor x = normal({33, width}, 1), rows = normal({7, width}, 2),
                   many = integers(70, 33, 3);
      const Tensor token = at::tensor({3, 32, 0, 17, 5, 6, 7}, at::kLong);
      expect_same([&](const Tensors& t) { return gather_rows(t[0], many); },
                  [&](const Tensors& t) { return at::index_select(t[0], 0, many); }, {x}, dtype,
                  "gather");
      expect_same([&](const Tensors& t) { return put_rows(t[0], token, t[1]); },
                  [&](const Tensors& t) { return at::index_copy(t[0], 0, token, t[1]); }, {x, rows},
                  dtype, "put");
      expect_same([&](const Tensors& t) { return add_rows(t[0], token, t[1]); },
                  [&](const Tensors& t) { return at::index_add(t[0], 0, token, t[1]); }, {x, rows},
                  dtype, "add");
      expect_same([&](const Tensors& t) { return add_rows(t[0], many, t[1]); },
                  [&](const Tensors& t) { return at::index_add(t[0], 0, many, t[1]); },
                  {x, normal({70, width}, 4)}, dtype, "add with repeats");
    }
  }
}

TEST(Rows, KeepTrailingDimensions) {
  const Tensor x = normal({5, 2, 3}, 1), index = at::tensor({4, 4, 1}, at::kLong);
  expect_same([&](const Tensors& t) { return gather_rows(t[0], index); },
              [&](const Tensors& t) { return at::index_select(t[0], 0, index); }, {x}, at::kDouble,
              "gather");
}

TEST(Rows, NoneKeepsTheGraph) {
  const Tensor none = at::empty({0}, at::kLong);
  auto t = leaves({normal({4, 8}, 1), normal({0, 8}, 2)}, at::kFloat);
  EXPECT_TRUE(at::equal(
      run([&](const Tensors& t) { return gather_rows(t[0], none); }, t, at::empty({0, 8})).grads[0],
      at::zeros({4, 8})));
  for (const bool put : {true, false}) {
    auto t = leaves({normal({4, 8}, 1), normal({0, 8}, 2)}, at::kFloat);
    const Outcome outcome = run(
        [&](const Tensors& t) {
          return put ? put_rows(t[0], none, t[1]) : add_rows(t[0], none, t[1]);
        },
        t, at::ones({4, 8}));
    EXPECT_TRUE(at::equal(outcome.y, t[0]));
    EXPECT_TRUE(at::equal(outcome.grads[0], at::ones({4, 8})));
    ASSERT_TRUE(outcome.grads[1].defined());
    EXPECT_EQ(outcome.grads[1].sizes(), (at::IntArrayRef{0, 8}));
  }
}

TEST(Rows, RefuseWhatDoesNotFit) {
  const Tensor x = at::ones({4, 8});
  EXPECT_THROW(gather_rows(x, at::tensor({4}, at::kLong)), Error);
  EXPECT_THROW(put_rows(x, at::tensor({1, 1}, at::kLong), at::ones({2, 8})), Error);
  EXPECT_THROW(put_rows(x, at::tensor({1}, at::kLong), at::ones({1, 7})), Error);
  EXPECT_THROW(put_rows(x, at::tensor({1}, at::kLong), at::ones({2, 8})), Error);
  EXPECT_THROW(add_rows(x, at::tensor({-1}, at::kLong), at::ones({1, 8})), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
