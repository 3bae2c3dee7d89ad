// SPDX-License-Identifier: Apache-2.0
/// Random inputs and the comparison every op's test makes: forward and gradients against plain ATen
/// in float64.
#pragma once

#include <ATen/Context.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/types.h>

#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/level.h"
#include "veomni/base/rng.h"
#include "veomni/ops/compare.h"

namespace veomni::ops::testing {

using at::Tensor;
using Tensors = std::vector<Tensor>;
using Op = std::function<Tensor(const Tensors&)>;

/// New tensors are NaNs in every test: an op that reads what it did not write shows.
inline const bool kFreshMemoryIsNaN = [] {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  at::globalContext().setDeterministicFillUninitializedMemory(true);
  return true;
}();

/// Standard normals that depend on the key alone; ATen's default generator is never used.
inline Tensor normal(at::IntArrayRef sizes, uint64_t key) {
  Tensor x = at::empty(sizes, at::kDouble);
  const KeyedRng rng(key, "test");
  for (int64_t i = 0; i < x.numel(); ++i) x.mutable_data_ptr<double>()[i] = rng.normal_at(i);
  return x;
}

/// int64 in [0, bound).
inline Tensor integers(int64_t count, int64_t bound, uint64_t key) {
  Tensor x = at::empty({count}, at::kLong);
  const KeyedRng rng(key, "ids");
  for (int64_t i = 0; i < count; ++i) {
    x.mutable_data_ptr<int64_t>()[i] =
        static_cast<int64_t>(rng.uniform_at(i) * static_cast<double>(bound));
  }
  return x;
}

/// Error bounds of one comparison, by relative_error.
///   float64: rounding of sums, 1e-12 with room for a few thousand terms (2^-53 · √4096 ≈ 7e-15).
///   float32: DESIGN's 1e-5 for whole models; single operations are held to it with all their
///   inputs exact. bfloat16: a value stored once has relative error <= 2^-9 = 2e-3, uniformly
///   distributed about 2^-9/√3 ≈ 1.1e-3 in
///     norm; the ops store one to four such values on the way to a result (output, an intermediate
///     probability or logit, the incoming gradient), independent, so 4 · 2^-9 bounds them.
inline double tolerance(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble: return 1e-12;
    case at::kFloat: return 1e-5;
    default: return 4.0 / 512;
  }
}

/// Leaves of `dtype` from float64 values; integer tensors pass through.
inline Tensors leaves(const Tensors& values, at::ScalarType dtype) {
  Tensors result;
  for (const Tensor& value : values) {
    result.push_back(value);
    if (!value.defined() || !value.is_floating_point()) continue;
    result.back() = value.to(dtype).clone().set_requires_grad(true);
    // As nn's parameters do: without it the engine rounds wide gradients to bfloat16.
    result.back().set_grad_dtype(dtype == at::kDouble ? at::kDouble : at::kFloat);
  }
  return result;
}

struct Outcome {
  Tensor y;
  Tensors grads;  ///< per input, undefined for integers
};

/// y and the gradients of Σ y · cotangent.
inline Outcome run(const Op& op, const Tensors& inputs, const Tensor& cotangent) {
  const Tensor y = op(inputs);
  torch::autograd::backward({y}, {cotangent.to(y.scalar_type())});
  Outcome outcome{y.detach(), {}};
  for (const Tensor& input : inputs)
    outcome.grads.push_back(input.defined() ? input.grad() : Tensor());
  return outcome;
}

/// The norm of all gradients together and their element count, for relative_error.
inline std::pair<double, int64_t> all_gradients(const Outcome& outcome) {
  double squares = 0;
  int64_t numel = 0;
  for (const Tensor& grad : outcome.grads) {
    if (!grad.defined()) continue;
    squares += std::pow(grad.norm().item<double>(), 2);
    numel += grad.numel();
  }
  return {std::sqrt(squares), numel};
}

/// Compares `op` in `dtype` with `reference` in float64 on the same (rounded) inputs, result and
/// all gradients, at every instruction-set level of this processor; runs `op` twice and expects
/// equal bits.
inline void expect_same(const Op& op, const Op& reference, const Tensors& values,
                        at::ScalarType dtype, const std::string& what) {
  const double bound = tolerance(dtype);
  Tensors rounded;
  for (const Tensor& value : values) rounded.push_back(value.to(dtype).to(at::kDouble));
  const Tensors truth_inputs = leaves(rounded, at::kDouble);
  const Tensor cotangent = normal(reference(truth_inputs).sizes(), 99).to(dtype).to(at::kDouble);
  const Outcome truth = run(reference, truth_inputs, cotangent);
  const auto [norm, numel] = all_gradients(truth);
  for (const kernels::Level level : kernels::available_levels()) {
    SCOPED_TRACE(what + ", kernel level " + std::to_string(static_cast<int>(level)));
    const kernels::ForceLevel force(level);
    const Outcome got = run(op, leaves(rounded, dtype), cotangent);
    const Outcome again = run(op, leaves(rounded, dtype), cotangent);
    EXPECT_LE(relative_error(got.y, truth.y), bound) << "result";
    EXPECT_TRUE(at::equal(got.y, again.y)) << "two runs differ";
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_TRUE(got.grads[i].defined()) << "gradient " << i << " is missing";
      EXPECT_LE(relative_error(got.grads[i], truth.grads[i], norm, numel), bound)
          << "gradient " << i;
      EXPECT_TRUE(at::equal(got.grads[i], again.grads[i]))
          << "gradient " << i << " differs in two runs";
    }
  }
}

inline const std::vector<at::ScalarType> kDtypes = {at::kDouble, at::kFloat, at::kBFloat16};

/// Runs body at every instruction-set level, named in failures.
inline void at_every_level(const std::function<void()>& body) {
  for (const kernels::Level level : kernels::available_levels()) {
    SCOPED_TRACE("kernel level " + std::to_string(static_cast<int>(level)));
    const kernels::ForceLevel force(level);
    body();
  }
}

}  // namespace veomni::ops::testing
