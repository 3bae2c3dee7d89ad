// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/kernel_list.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> void gather_rows(const GatherRows& a) {
  const T* x = static_cast<const T*>(a.x);
  T* out = static_cast<T*>(a.out);
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t r = 0; r < a.rows; ++r) {
    std::memcpy(out + r * a.width, x + a.index[r] * a.width, a.width * sizeof(T));
  }
}

template <typename T> void put_rows(const PutRows& a) {
  const T* source = static_cast<const T*>(a.source);
  T* out = static_cast<T*>(a.out);
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t r = 0; r < a.rows; ++r) {
    T* to = out + a.index[r] * a.width;
    if (source) {
      std::memcpy(to, source + r * a.width, a.width * sizeof(T));
    } else {
      std::memset(to, 0, a.width * sizeof(T));  // all-zero bits are 0 in every dtype here
    }
  }
}

/// Sorts source rows by target, stably: after it, those of target t are order[begin[t] .. begin[t +
/// 1]).
void group_by_target(const ScatterAddRows& a, int64_t* begin, int64_t* order) {
  std::memset(begin, 0, (a.targets + 1) * sizeof(int64_t));
  for (int64_t r = 0; r < a.rows; ++r) ++begin[a.index[r] + 1];
  for (int64_t t = 0; t < a.targets; ++t) begin[t + 1] += begin[t];
  for (int64_t r = 0; r < a.rows; ++r) order[begin[a.index[r]]++] = r;
  for (int64_t t = a.targets; t > 0; --t) begin[t] = begin[t - 1];
  begin[0] = 0;
}

template <typename T, typename O> void scatter_add(const ScatterAddRows& a) {
  using A = Acc<T>;
  constexpr int64_t kChunk = 256;  // columns summed on the stack at a time
  const T* source = static_cast<const T*>(a.source);
  const T* base = static_cast<const T*>(a.base);
  O* out = static_cast<O*>(a.out);
  int64_t* begin = a.workspace;
  int64_t* order = begin + a.targets + 1;
  group_by_target(a, begin, order);
#pragma omp parallel for schedule(static) if (a.targets * a.width > kParallelGrain)
  for (int64_t t = 0; t < a.targets; ++t) {
    for (int64_t c0 = 0; c0 < a.width; c0 += kChunk) {
      const int64_t n = min_of(kChunk, a.width - c0);
      A sum[kChunk];
      for (int64_t c = 0; c < n; ++c) sum[c] = base ? wide(base[t * a.width + c0 + c]) : A(0);
      for (int64_t i = begin[t]; i < begin[t + 1]; ++i) {
        const T* row = source + order[i] * a.width + c0;
        for (int64_t c = 0; c < n; ++c) sum[c] += wide(row[c]);
      }
      for (int64_t c = 0; c < n; ++c) out[t * a.width + c0 + c] = narrow<O>(sum[c]);
    }
  }
}

}  // namespace

void run(const GatherRows& a) {
  for_type(a.dtype, [&](auto t) { gather_rows<decltype(t)>(a); });
}
void run(const PutRows& a) {
  for_type(a.dtype, [&](auto t) { put_rows<decltype(t)>(a); });
}
void run(const ScatterAddRows& a) {
  for_type(a.dtype, [&](auto t) {
    using T = decltype(t);
    if (a.wide_out) {
      scatter_add<T, Acc<T>>(a);
    } else {
      scatter_add<T, T>(a);
    }
  });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
