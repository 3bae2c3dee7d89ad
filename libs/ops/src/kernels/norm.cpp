// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "kernels/kernel_list.h"
#include "kernels/number.h"
#include "kernels/reduction.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> void rms_forward(const RmsNormForward& a) {
  using A = Acc<T>;
  const T* weight = static_cast<const T*>(a.weight);
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* x = static_cast<const T*>(a.x) + i * a.width;
    T* out = static_cast<T*>(a.out) + i * a.width;
    A sum = 0;
    for (int64_t j = 0; j < a.width; ++j) sum += wide(x[j]) * wide(x[j]);
    const A rstd = A(1) / std::sqrt(sum / A(a.width) + A(a.eps));
    static_cast<A*>(a.rstd)[i] = rstd;
#pragma omp simd
    for (int64_t j = 0; j < a.width; ++j)
      out[j] = narrow<T>(wide(weight[j]) * rounded<T>(wide(x[j]) * rstd));
  }
}

template <typename T> void rms_backward_row(const RmsNormBackward& a, int64_t i, Acc<T>* dweight) {
  using A = Acc<T>;
  const T* weight = static_cast<const T*>(a.weight);
  const T* x = static_cast<const T*>(a.x) + i * a.width;
  const T* dout = static_cast<const T*>(a.dout) + i * a.width;
  const A rstd = static_cast<const A*>(a.rstd)[i];
  A dot = 0;
  if (dweight) {
#pragma omp simd reduction(+ : dot)
    for (int64_t j = 0; j < a.width; ++j) {
      dweight[j] += wide(dout[j]) * rounded<T>(wide(x[j]) * rstd);
      dot += wide(dout[j]) * wide(weight[j]) * wide(x[j]);
    }
  } else {
    for (int64_t j = 0; j < a.width; ++j) dot += wide(dout[j]) * wide(weight[j]) * wide(x[j]);
  }
  if (!a.dx) return;
  const A correction = dot * rstd * rstd * rstd / A(a.width);
  T* dx = static_cast<T*>(a.dx) + i * a.width;
#pragma omp simd
  for (int64_t j = 0; j < a.width; ++j) {
    dx[j] = narrow<T>(wide(dout[j]) * wide(weight[j]) * rstd - wide(x[j]) * correction);
  }
}

template <typename T> void rms_backward(const RmsNormBackward& a) {
  using A = Acc<T>;
  const int64_t blocks = min_of(kReductionBlocks, a.rows);
  A* workspace = static_cast<A*>(a.workspace);
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t b = 0; b < blocks; ++b) {
    A* dweight = a.dweight ? workspace + b * a.width : nullptr;
    if (dweight) {
      for (int64_t j = 0; j < a.width; ++j) dweight[j] = 0;
    }
    const int64_t end = block_begin(b + 1, blocks, a.rows);
    for (int64_t i = block_begin(b, blocks, a.rows); i < end; ++i)
      rms_backward_row<T>(a, i, dweight);
  }
  if (a.dweight) sum_blocks(workspace, blocks, a.width, a.width, static_cast<A*>(a.dweight));
}

template <typename T> void layer_forward(const LayerNormForward& a) {
  using A = Acc<T>;
  const T* weight = static_cast<const T*>(a.weight);
  const T* bias = static_cast<const T*>(a.bias);
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* x = static_cast<const T*>(a.x) + i * a.width;
    T* out = static_cast<T*>(a.out) + i * a.width;
    A sum = 0, squares = 0;
    for (int64_t j = 0; j < a.width; ++j) sum += wide(x[j]);
    const A mean = sum / A(a.width);
    for (int64_t j = 0; j < a.width; ++j) squares += (wide(x[j]) - mean) * (wide(x[j]) - mean);
    const A rstd = A(1) / std::sqrt(squares / A(a.width) + A(a.eps));
    static_cast<A*>(a.mean)[i] = mean;
    static_cast<A*>(a.rstd)[i] = rstd;
#pragma omp simd
    for (int64_t j = 0; j < a.width; ++j) {
      out[j] = narrow<T>((wide(x[j]) - mean) * rstd * wide(weight[j]) + wide(bias[j]));
    }
  }
}

template <typename T>
void layer_backward_row(const LayerNormBackward& a, int64_t i, Acc<T>* dweight, Acc<T>* dbias) {
  using A = Acc<T>;
  const T* weight = static_cast<const T*>(a.weight);
  const T* x = static_cast<const T*>(a.x) + i * a.width;
  const T* dout = static_cast<const T*>(a.dout) + i * a.width;
  const A mean = static_cast<const A*>(a.mean)[i], rstd = static_cast<const A*>(a.rstd)[i];
  A sum = 0, dot = 0;
  if (dweight) {
#pragma omp simd reduction(+ : sum, dot)
    for (int64_t j = 0; j < a.width; ++j) {
      const A d = wide(dout[j]), g = d * wide(weight[j]), normalised = (wide(x[j]) - mean) * rstd;
      dweight[j] += d * normalised;
      dbias[j] += d;
      sum += g;
      dot += g * normalised;
    }
  } else {
    for (int64_t j = 0; j < a.width; ++j) {
      const A g = wide(dout[j]) * wide(weight[j]);
      sum += g;
      dot += g * (wide(x[j]) - mean) * rstd;
    }
  }
  if (!a.dx) return;
  sum /= A(a.width);
  dot /= A(a.width);
  T* dx = static_cast<T*>(a.dx) + i * a.width;
#pragma omp simd
  for (int64_t j = 0; j < a.width; ++j) {
    const A normalised = (wide(x[j]) - mean) * rstd;
    dx[j] = narrow<T>((wide(dout[j]) * wide(weight[j]) - sum - normalised * dot) * rstd);
  }
}

template <typename T> void layer_backward(const LayerNormBackward& a) {
  using A = Acc<T>;
  const int64_t blocks = min_of(kReductionBlocks, a.rows), stride = 2 * a.width;
  const bool parameters = a.dweight || a.dbias;
  A* workspace = static_cast<A*>(a.workspace);
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t b = 0; b < blocks; ++b) {
    A* dweight = parameters ? workspace + b * stride : nullptr;
    if (parameters) {
      for (int64_t j = 0; j < stride; ++j) dweight[j] = 0;
    }
    const int64_t end = block_begin(b + 1, blocks, a.rows);
    for (int64_t i = block_begin(b, blocks, a.rows); i < end; ++i) {
      layer_backward_row<T>(a, i, dweight, dweight + a.width);
    }
  }
  if (a.dweight) sum_blocks(workspace, blocks, stride, a.width, static_cast<A*>(a.dweight));
  if (a.dbias) sum_blocks(workspace + a.width, blocks, stride, a.width, static_cast<A*>(a.dbias));
}

template <typename T> void column_sum(const ColumnSum& a) {
  using A = Acc<T>;
  const int64_t blocks = min_of(kReductionBlocks, a.rows);
  A* workspace = static_cast<A*>(a.workspace);
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t b = 0; b < blocks; ++b) {
    A* sum = workspace + b * a.width;
    for (int64_t j = 0; j < a.width; ++j) sum[j] = 0;
    const int64_t end = block_begin(b + 1, blocks, a.rows);
    for (int64_t i = block_begin(b, blocks, a.rows); i < end; ++i) {
      const T* x = static_cast<const T*>(a.x) + i * a.width;
      for (int64_t j = 0; j < a.width; ++j) sum[j] += wide(x[j]);
    }
  }
  sum_blocks(workspace, blocks, a.width, a.width, static_cast<A*>(a.out));
}

// A strip of columns at a time, so that the sums need no memory but the stack.
template <typename T> void center_rows(const CenterRows& a) {
  using A = Acc<T>;
  constexpr int64_t kStrip = 64;
  const int64_t strips = (a.width + kStrip - 1) / kStrip;
#pragma omp parallel for schedule(static) if (a.groups * a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.groups * strips; ++i) {
    const int64_t column = i % strips * kStrip, n = std::min(kStrip, a.width - column);
    const int64_t first = i / strips * a.rows * a.width + column;
    const T* x = static_cast<const T*>(a.x) + first;
    T* out = static_cast<T*>(a.out) + first;
    A mean[kStrip] = {};
    for (int64_t row = 0; row < a.rows; ++row) {
      for (int64_t c = 0; c < n; ++c) mean[c] += wide(x[row * a.width + c]);
    }
    for (int64_t c = 0; c < n; ++c) mean[c] /= static_cast<A>(a.rows);
    for (int64_t row = 0; row < a.rows; ++row) {
      for (int64_t c = 0; c < n; ++c)
        out[row * a.width + c] = narrow<T>(wide(x[row * a.width + c]) - mean[c]);
    }
  }
}

}  // namespace

void run(const CenterRows& a) {
  for_type(a.dtype, [&](auto t) { center_rows<decltype(t)>(a); });
}
void run(const RmsNormForward& a) {
  for_type(a.dtype, [&](auto t) { rms_forward<decltype(t)>(a); });
}
void run(const RmsNormBackward& a) {
  for_type(a.dtype, [&](auto t) { rms_backward<decltype(t)>(a); });
}
void run(const LayerNormForward& a) {
  for_type(a.dtype, [&](auto t) { layer_forward<decltype(t)>(a); });
}
void run(const LayerNormBackward& a) {
  for_type(a.dtype, [&](auto t) { layer_backward<decltype(t)>(a); });
}
void run(const ColumnSum& a) {
  for_type(a.dtype, [&](auto t) { column_sum<decltype(t)>(a); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
