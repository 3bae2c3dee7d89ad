// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/resample.h"

#include <ATen/ATen.h>

#include "reference.h"
#include "veomni/base/error.h"

namespace veomni::ops::testing {
namespace {

Tensor upsample(const Tensors& t) { return ops::upsample_nearest2x(t[0]); }
Tensor aten_upsample(const Tensors& t) {
  const Tensor x = t[0].permute({0, 3, 1, 2});
  return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)})
      .permute({0, 2, 3, 1})
      .contiguous();
}
Tensor pairs(const Tensors& t) { return ops::mean_pairs(t[0]); }
Tensor aten_pairs(const Tensors& t) {
  return t[0].reshape({t[0].size(0) / 2, 2, t[0].size(1)}).mean(1);
}

TEST(UpsampleNearest2x, MatchesAten) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const std::array<int64_t, 4>& sizes :
         {std::array<int64_t, 4>{2, 7, 7, 32}, std::array<int64_t, 4>{1, 3, 5, 3},
          std::array<int64_t, 4>{3, 14, 14, 64}, std::array<int64_t, 4>{1, 1, 1, 1}}) {
      expect_same(upsample, aten_upsample, {normal(sizes, 1)}, dtype,
                  c10::str(at::IntArrayRef(sizes)));
    }
  }
  expect_same(upsample, aten_upsample, {normal({2, 8, 3, 5}, 1).permute({0, 2, 3, 1})}, at::kDouble,
              "strided");
}

// 256 + 1 + 1 + 1 rounded after each sum stays 256.
TEST(UpsampleNearest2x, SumsWideAndRoundsOnce) {
  auto t = leaves({at::zeros({1, 1, 1, 1})}, at::kBFloat16);
  run(upsample, t, at::tensor({256.0, 1.0, 1.0, 1.0}).view({1, 2, 2, 1}));
  EXPECT_EQ(t[0].grad().item<double>(), 260.0);  // 259 between 258 and 260, ties to even
}

TEST(MeanPairs, MatchesAten) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const std::array<int64_t, 2>& sizes :
         {std::array<int64_t, 2>{2, 8}, std::array<int64_t, 2>{34, 72},
          std::array<int64_t, 2>{300, 513}}) {
      expect_same(pairs, aten_pairs, {normal(sizes, 1)}, dtype, c10::str(at::IntArrayRef(sizes)));
    }
  }
  expect_same(pairs, aten_pairs, {normal({5, 6}, 1).t()}, at::kDouble, "strided");
}

TEST(Resample, NothingIsLegal) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const std::array<int64_t, 4>& sizes :
         {std::array<int64_t, 4>{0, 7, 7, 3}, std::array<int64_t, 4>{2, 0, 4, 3}}) {
      auto t = leaves({normal(sizes, 1)}, dtype);
      run(upsample, t, at::empty({sizes[0], 2 * sizes[1], 2 * sizes[2], 3}));
      EXPECT_EQ(t[0].grad().sizes(), at::IntArrayRef(sizes));
    }
    auto t = leaves({normal({0, 5}, 1)}, dtype);
    run(pairs, t, at::empty({0, 5}));
    EXPECT_EQ(t[0].grad().sizes(), (at::IntArrayRef{0, 5}));
  }
}

TEST(Resample, RefusesWhatDoesNotFit) {
  EXPECT_THROW(ops::mean_pairs(at::ones({3, 2})), Error);
  EXPECT_THROW(ops::mean_pairs(at::ones({2})), Error);
  EXPECT_THROW(ops::mean_pairs(at::ones({2, 2}, at::kHalf)), Error);
  EXPECT_THROW(ops::upsample_nearest2x(at::ones({2, 2, 3})), Error);
}

}  // namespace
}  // namespace veomni::ops::testing
