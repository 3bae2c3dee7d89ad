// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/compare.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "reference.h"
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

TEST(SumOfSquares, IsExactInDoubleAtEveryLevel) {
  // Around the bounds of vectors and of the partial sums.
  for (const int64_t count : {0, 1, 7, 33, 65535, 65536, 65537, 200003}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
      const at::Tensor x = testing::normal({count}, 5).to(dtype);
      const double expected = x.to(at::kDouble).square().sum().item<double>();
      testing::at_every_level([&] {
        EXPECT_NEAR(sum_of_squares(x), expected, 1e-13 * expected) << count << " of " << dtype;
        EXPECT_EQ(sum_of_squares(x), sum_of_squares(x.clone()));
      });
    }
  }
}

TEST(SumOfSquares, DoesNotDependOnThreads) {
  const at::Tensor x = testing::normal({300007}, 6).to(at::kFloat);
  const int before = at::get_num_threads();
  const double expected = sum_of_squares(x);
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    EXPECT_EQ(sum_of_squares(x), expected) << threads << " threads";
  }
  at::set_num_threads(before);
}

TEST(SumOfSquares, StridedNanAndInfinity) {
  EXPECT_EQ(sum_of_squares(at::tensor({1.0, 2.0, 3.0, 4.0}).view({2, 2}).t()), 30);
  EXPECT_TRUE(std::isnan(sum_of_squares(at::tensor({1.0, std::nan("")}))));
  EXPECT_EQ(sum_of_squares(at::tensor({1.0, HUGE_VAL})), HUGE_VAL);
  EXPECT_THROW(sum_of_squares(at::Tensor()), Error);
  EXPECT_THROW(sum_of_squares(at::empty({3}, at::kMeta)), Error);
}

}  // namespace
}  // namespace veomni::ops
