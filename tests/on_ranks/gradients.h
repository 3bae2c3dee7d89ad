// SPDX-License-Identifier: Apache-2.0
/// Comparing the gradients (or weights) of one layout with another's.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <map>
#include <string>

#include "veomni/base/error.h"
#include "veomni/ops/compare.h"

namespace veomni {

/// Full tensors by parameter.
using Gradients = std::map<std::string, torch::Tensor>;

/// A line for each tensor of `got` that is further than `tolerance` from `want`'s, measured beside all of `want`
/// together (ops/compare.h), and for each that one of them lacks; "" if there is none.
inline std::string differences(const Gradients& got, const Gradients& want, double tolerance) {
  double squares = 0;
  int64_t numel = 0;
  std::string lines;
  for (const auto& [name, tensor] : want) {
    if (!tensor.defined()) return name + " has no gradient; what is absent gives zeros\n";
    squares += tensor.to(torch::kDouble).square().sum().item<double>();
    numel += tensor.numel();
  }
  if (want.empty()) return "nothing to compare with\n";
  for (const auto& [name, tensor] : got) {
    if (!want.count(name)) lines += name + " is not wanted\n";
  }
  for (const auto& [name, tensor] : want) {
    const auto found = got.find(name);
    if (found == got.end() || !found->second.defined()) {
      lines += name + " is missing\n";
      continue;
    }
    const double error = ops::relative_error(found->second, tensor, std::sqrt(squares), numel);
    if (!(error <= tolerance))
      lines += detail::concat(name, ": error ", error, ", at most ", tolerance, " is allowed\n");
  }
  return lines;
}

/// A line for each tensor whose bits differ; "" if there is none.
inline std::string different_bits(const Gradients& a, const Gradients& b) {
  std::string lines = a.size() == b.size() && !a.empty() ? "" : "different tensors\n";
  for (const auto& [name, tensor] : a) {
    const auto found = b.find(name);
    if (found == b.end() || !torch::equal(tensor, found->second)) lines += name + "\n";
  }
  return lines;
}

}  // namespace veomni
