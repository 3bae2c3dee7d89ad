// SPDX-License-Identifier: Apache-2.0
/// The walk over rows of logits that cross-entropy's forms share.
#pragma once

#include <cmath>

#include "kernels/exponential.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// A Row of logits has
///   add(bias)                         to each
///   sum_of_exponentials(top)          Σ exp(logit - top)
///   to_probabilities(top, scale)      every logit becomes exp(logit - top) · scale
template <typename Row, typename T> void cross_entropy(const CrossEntropy& a) {
  using A = Acc<T>;
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.rows; ++i) {
    T* logits = static_cast<T*>(a.logits) + i * a.width;
    const Row row{logits, a.width};
    if (a.bias) row.add(static_cast<const T*>(a.bias));
    const A top = highest_of(logits, a.width, wide(logits[0]));
    const A sum = row.sum_of_exponentials(top), at_label = wide(logits[a.label[i]]);
    static_cast<A*>(a.loss)[i] = std::log(sum) + top - at_label;
    if (!a.gradient) continue;
    const A weight = A(a.weight[i]), scale = weight / sum;
    row.to_probabilities(top, scale);
    logits[a.label[i]] = narrow<T>(exp_of(at_label - top) * scale - weight);
  }
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
