// SPDX-License-Identifier: Apache-2.0
#include "kernel_work.h"

#include <algorithm>

namespace veomni::ops {
namespace {

double product(std::initializer_list<int64_t> factors) {
  double result = 1;
  for (int64_t factor : factors) result *= static_cast<double>(factor);
  return result;
}

double flops_of_shape(const kernels::ConvolveShape& s) {
  return 2 * product({s.pictures, s.out_height, s.out_width, s.features, s.channels, s.kernel_h,
                      s.kernel_w});
}

/// Pairs of a query and a key that it sees, over all segments. A segment's last query stands at its
/// last key.
double visible_pairs(const kernels::AttentionShape& s) {
  double pairs = 0;
  for (int64_t i = 0; i < s.segments; ++i) {
    const int64_t queries = s.cu_q[i + 1] - s.cu_q[i], keys = s.cu_k[i + 1] - s.cu_k[i];
    const int64_t right = s.causal ? 0 : s.window_right;
    for (int64_t q = 0; q < queries; ++q) {
      const int64_t position = q + keys - queries;
      const int64_t first = s.window_left >= 0 ? std::max<int64_t>(0, position - s.window_left) : 0;
      const int64_t end = right >= 0 ? std::min(keys, position + right + 1) : keys;
      pairs += static_cast<double>(std::max<int64_t>(0, end - first));
    }
  }
  return pairs;
}

}  // namespace

double flops_of(const kernels::MatMul& args) { return 2 * product({args.m, args.n, args.k}); }
// Each row, or term, belongs to one group.
double flops_of(const kernels::GroupedMatMul& args) {
  return 2 * product({args.m, args.n, args.k});
}
double flops_of(const kernels::Convolve& args) { return flops_of_shape(args.shape); }
double flops_of(const kernels::ConvolveWeight& args) { return flops_of_shape(args.shape); }
double flops_of(const kernels::NearestCode& args) {
  return 2 * product({args.rows, args.codes, args.width});
}

// Scores and the weighted sum.
double flops_of(const kernels::AttentionForward& args) {
  const auto& s = args.shape;
  return 2 * visible_pairs(s) * product({s.heads, s.k_width + s.v_width});
}

// The scores again, the gradients of q, k and v, and the weights' own.
double flops_of(const kernels::AttentionBackward& args) {
  const auto& s = args.shape;
  return 2 * visible_pairs(s) * product({s.heads, 3 * s.k_width + 2 * s.v_width});
}

}  // namespace veomni::ops
