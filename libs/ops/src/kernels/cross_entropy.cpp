// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross_entropy_rows.h"
#include "kernels/kernel_list.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> struct Row {
  using A = Acc<T>;
  T* logits;
  int64_t width;

  void add(const T* bias) const {
    for (int64_t j = 0; j < width; ++j) logits[j] = narrow<T>(wide(logits[j]) + wide(bias[j]));
  }
  A sum_of_exponentials(A top) const {
    A sum = 0;
    for (int64_t j = 0; j < width; ++j) sum += exp_of(wide(logits[j]) - top);
    return sum;
  }
  void to_probabilities(A top, A scale) const {
    for (int64_t j = 0; j < width; ++j)
      logits[j] = narrow<T>(exp_of(wide(logits[j]) - top) * scale);
  }
};

template <typename A> void weighted_sum(const WeightedSum& a) {
  double sum = 0;
  for (int64_t i = 0; i < a.count; ++i) sum += a.weight[i] * static_cast<const A*>(a.x)[i];
  *static_cast<A*>(a.out) = A(sum);
}

}  // namespace

void run(const CrossEntropy& a) {
  for_type(a.dtype, [&](auto t) { cross_entropy<Row<decltype(t)>, decltype(t)>(a); });
}
void run(const WeightedSum& a) {
  for_type(a.dtype, [&](auto t) { weighted_sum<Acc<decltype(t)>>(a); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
