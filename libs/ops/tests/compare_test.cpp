// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/compare.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "veomni/base/error.h"

namespace veomni::ops {
namespace {

TEST(RelativeError, IsTheFormula) {
  const at::Tensor b = at::tensor({3.0, 4.0}), a = at::tensor({3.0, 4.5});
  EXPECT_DOUBLE_EQ(relative_error(a, b), 0.5 / 5);
  // A tensor far below its share of all gradients is measured against a thousandth of that share.
  EXPECT_DOUBLE_EQ(relative_error(a, b, 1e5, 200), 0.5 / (1e-3 * std::sqrt(2.0 / 200) * 1e5));
  EXPECT_DOUBLE_EQ(relative_error(a, b, 10, 200), 0.5 / 5);
  EXPECT_EQ(relative_error(b.to(at::kFloat), b), 0);
}

TEST(RelativeError, AnExactZeroMustBeExact) {
  const at::Tensor zero = at::zeros({3});
  EXPECT_EQ(relative_error(zero, zero, 1, 10), 0);
  EXPECT_EQ(relative_error(zero + 1e-30, zero, 1, 10), HUGE_VAL);
}

TEST(RelativeError, NanIsInfinitelyFar) {
  const at::Tensor one = at::ones({2}), nan = at::tensor({1.0, std::nan("")});
  EXPECT_EQ(relative_error(nan, one), HUGE_VAL);
  EXPECT_EQ(relative_error(one, nan), HUGE_VAL);
  EXPECT_EQ(relative_error(nan, nan), HUGE_VAL);
}

TEST(RelativeError, EmptyAndMisfits) {
  EXPECT_EQ(relative_error(at::empty({0}), at::empty({0})), 0);
  EXPECT_THROW(relative_error(at::ones({2}), at::ones({2, 1})), Error);
  EXPECT_THROW(relative_error(at::Tensor(), at::ones({2})), Error);
}

}  // namespace
}  // namespace veomni::ops
