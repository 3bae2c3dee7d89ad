// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/clip.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "veomni/parallel/fully_shard.h"

namespace veomni::parallel {

namespace {

// Partial sums have fixed bounds, whatever number of threads computes them.
constexpr int64_t kStretch = 1 << 16;
// Independent sums of one stretch: enough for the compiler to keep vector units busy.
constexpr int kLanes = 16;

template <typename T> double sum_of_squares(const T* values, int64_t n) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = static_cast<double>(values[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (; i < n; ++i) lanes[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return sum;
}

template <typename T> double sum_of_squares_parallel(const torch::Tensor& tensor) {
  const T* values = tensor.data_ptr<T>();
  const int64_t numel = tensor.numel(), num_stretches = (numel + kStretch - 1) / kStretch;
  std::vector<double> partial(num_stretches);
  at::parallel_for(0, num_stretches, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      partial[s] = sum_of_squares(values + s * kStretch, std::min(kStretch, numel - s * kStretch));
    }
  });
  double sum = 0;
  for (double value : partial) sum += value;
  return sum;
}

double sum_of_squares(const torch::Tensor& gradient) {
  const auto dense = gradient.contiguous();
  return dense.scalar_type() == torch::kDouble ? sum_of_squares_parallel<double>(dense)
                                               : sum_of_squares_parallel<float>(dense);
}

}  // namespace

double gradient_norm(const std::vector<nn::Parameter>& parameters, Communicator& group) {
  torch::NoGradGuard no_grad;
  double sharded = 0, whole = 0;
  for (const auto& parameter : parameters) {
    const auto gradient = parameter.grad();
    if (!gradient.defined()) continue;
    if (!is_sharded(parameter)) {
      whole += sum_of_squares(gradient);
    } else if (parameter.replica() == 0) {
      sharded += sum_of_squares(gradient);
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
