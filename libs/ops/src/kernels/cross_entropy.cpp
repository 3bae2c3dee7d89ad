// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/exponential.h"
#include "kernels/kernel_list.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> void cross_entropy(const CrossEntropy& a) {
  using A = Acc<T>;
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.rows; ++i) {
    T* logits = static_cast<T*>(a.logits) + i * a.width;
    if (a.bias) {
      const T* bias = static_cast<const T*>(a.bias);
      for (int64_t j = 0; j < a.width; ++j) logits[j] = narrow<T>(wide(logits[j]) + wide(bias[j]));
    }
    const A top = highest_of(logits, a.width, wide(logits[0]));
    A sum = 0;
    for (int64_t j = 0; j < a.width; ++j) sum += exp_of(wide(logits[j]) - top);
    static_cast<A*>(a.loss)[i] = std::log(sum) + top - wide(logits[a.label[i]]);
    if (!a.gradient) continue;
    const A scale = A(a.weight[i]) / sum;
    const A at_label = exp_of(wide(logits[a.label[i]]) - top) * scale - A(a.weight[i]);
    for (int64_t j = 0; j < a.width; ++j)
      logits[j] = narrow<T>(exp_of(wide(logits[j]) - top) * scale);
    logits[a.label[i]] = narrow<T>(at_label);
  }
}

template <typename A> void weighted_sum(const WeightedSum& a) {
  double sum = 0;
  for (int64_t i = 0; i < a.count; ++i) sum += a.weight[i] * static_cast<const A*>(a.x)[i];
  *static_cast<A*>(a.out) = A(sum);
}

}  // namespace

void run(const CrossEntropy& a) {
  for_type(a.dtype, [&](auto t) { cross_entropy<decltype(t)>(a); });
}
void run(const WeightedSum& a) {
  for_type(a.dtype, [&](auto t) { weighted_sum<Acc<decltype(t)>>(a); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
