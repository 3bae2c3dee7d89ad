// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/clip.h"

#include <cmath>

#include "veomni/ops/compare.h"
#include "veomni/parallel/fully_shard.h"

namespace veomni::parallel {

double gradient_norm(const std::vector<nn::Parameter>& parameters, Communicator& group) {
  torch::NoGradGuard no_grad;
  double sharded = 0, whole = 0;
  for (const auto& parameter : parameters) {
    const auto gradient = parameter.grad();
    if (!gradient.defined()) continue;
    if (!is_sharded(parameter)) {
      whole += ops::sum_of_squares(gradient);
    } else if (parameter.replica() == 0) {
      sharded += ops::sum_of_squares(gradient);
    }
  }
  auto sum = torch::full({}, sharded, torch::kDouble);
  group.all_reduce(sum, sum, ReduceOp::kSum)->wait();
  return std::sqrt(sum.item<double>() + whole);
}

double clip_coefficient(double norm, double max_norm) {
  if (max_norm <= 0) return 1;
  // Written so that a NaN norm gives NaN: std::min would hide it.
  const double coefficient = max_norm / (norm + 1e-6);
  return coefficient > 1 ? 1 : coefficient;
}

}  // namespace veomni::parallel
