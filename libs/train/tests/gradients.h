// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "veomni/ops/compare.h"

namespace veomni::train {

/// Full gradients by parameter.
using Gradients = std::map<std::string, torch::Tensor>;

/// Each of `want` is in `got` within the tolerance, measured beside all gradients together.
inline void expect_same_gradients(const Gradients& got, const Gradients& want, double tolerance) {
  double squares = 0;
  int64_t numel = 0;
  for (const auto& [name, gradient] : want) {
    ASSERT_TRUE(gradient.defined()) << name << " has no gradient; what is absent gives zeros";
    squares += gradient.to(torch::kDouble).square().sum().item<double>();
    numel += gradient.numel();
  }
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, gradient] : want) {
    EXPECT_LE(ops::relative_error(got.at(name), gradient, std::sqrt(squares), numel), tolerance)
        << name;
  }
}

}  // namespace veomni::train
