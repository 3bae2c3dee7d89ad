// SPDX-License-Identifier: Apache-2.0
#include "veomni/generate/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace veomni::generate {

int32_t sample_token(std::span<const float> logits, const SamplingOptions& options,
                     double uniform) {
  const auto likeliest =
      static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (options.temperature == 0) return likeliest;

  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (options.top_k > 0) order.resize(std::min<size_t>(order.size(), options.top_k));

  std::vector<double> weight(order.size());
  const double top = logits[likeliest];
  for (size_t i = 0; i < order.size(); ++i)
    weight[i] = std::exp((logits[order[i]] - top) / options.temperature);
  double total = std::accumulate(weight.begin(), weight.end(), 0.0);

  // The nucleus: the shortest prefix whose share reaches top_p (Holtzman et al. 2020, section 3.1).
  size_t kept = 0;
  double sum = 0;
  while (kept < order.size() && (kept == 0 || sum < options.top_p * total)) sum += weight[kept++];

  double target = uniform * sum;
  for (size_t i = 0; i < kept; ++i) {
    target -= weight[i];
    if (target < 0) return order[i];
  }
  return order[kept - 1];
}

}  // namespace veomni::generate
