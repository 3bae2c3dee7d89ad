// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include <type_traits>

#include "kernels/kernel_list.h"
#include "kernels/matmul_plan.h"
#include "kernels/tile.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// A strided operand: element (i, k) of [count, depth].
template <typename T> struct Operand {
  const T* data;
  int64_t step, step_k;
};

/// out[k · width + i] = x[i · step + k] for 4 x 4 elements.
template <int width> inline void transpose_4x4(const float* x, int64_t step, float* out) {
  typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
  auto row = [&](int i) { return *reinterpret_cast<const Four*>(x + i * step); };
  const Four a = __builtin_shufflevector(row(0), row(1), 0, 4, 1, 5),
             b = __builtin_shufflevector(row(2), row(3), 0, 4, 1, 5);
  const Four c = __builtin_shufflevector(row(0), row(1), 2, 6, 3, 7),
             d = __builtin_shufflevector(row(2), row(3), 2, 6, 3, 7);
  auto column = [&](int k) -> Four& { return *reinterpret_cast<Four*>(out + k * width); };
  column(0) = __builtin_shufflevector(a, b, 0, 1, 4, 5);
  column(1) = __builtin_shufflevector(a, b, 2, 3, 6, 7);
  column(2) = __builtin_shufflevector(c, d, 0, 1, 4, 5);
  column(3) = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

/// A whole panel of rows that are contiguous along k; returns how many k were done.
template <int width>
int64_t transpose_panel(const float* x, int64_t step, int64_t depth, float* out) {
  if (width % 4 != 0) return 0;
  for (int64_t k = 0; k + 4 <= depth; k += 4) {
    for (int i = 0; i < width; i += 4)
      transpose_4x4<width>(x + i * step + k, step, out + k * width + i);
  }
  return depth / 4 * 4;
}

/// out[panel][k][lane] = x[first + panel · width + lane, k0 + k], zero where a lane passes `count`.
template <int width, typename T>
void pack(const Operand<T>& x, int64_t first, int64_t count, int64_t padded, int64_t k0,
          int64_t depth, Acc<T>* out) {
  for (int64_t p = 0; p < padded; p += width, out += width * depth) {
    const int64_t lanes = min_of(width, count - p);
    const T* from = x.data + (first + p) * x.step + k0 * x.step_k;
    if (lanes == width && x.step == 1) {
      for (int64_t k = 0; k < depth; ++k) {
        for (int i = 0; i < width; ++i) out[k * width + i] = wide(from[k * x.step_k + i]);
      }
      continue;
    }
    if (lanes < width) {
      for (int64_t i = 0; i < width * depth; ++i) out[i] = 0;
    }
    int64_t done = 0;
    if constexpr (std::is_same_v<T, float>) {
      if (lanes == width && x.step_k == 1) done = transpose_panel<width>(from, x.step, depth, out);
    }
    // Short runs of k, so that a panel's lines stay in L1 while its lanes are filled one by one.
    for (int64_t k1 = done; k1 < depth; k1 += 16) {
      const int64_t end = min_of(depth, k1 + 16);
      for (int64_t i = 0; i < lanes; ++i) {
        for (int64_t k = k1; k < end; ++k)
          out[k * width + i] = wide(from[i * x.step + k * x.step_k]);
      }
    }
  }
}

template <typename A>
void multiply_block(const A* a, const A* b, int64_t rows, int64_t columns, int64_t depth, bool add,
                    A* sums) {
  for (int64_t p = 0; p < columns; p += kTileColumns<A>) {
    for (int64_t r = 0; r < rows; r += kTileRows) {
      const A* left = a + r * depth;
      const A* right = b + p * depth;
      A* out = sums + r * columns + p;
      if (add) {
        tile<true>(left, 1, kTileRows, right, kTileColumns<A>, depth, out, columns);
      } else {
        tile<false>(left, 1, kTileRows, right, kTileColumns<A>, depth, out, columns);
      }
    }
  }
}

template <typename T, typename O, bool add>
void write_block(const Acc<T>* sums, int64_t stride, int64_t rows, int64_t columns, O* out,
                 int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      if constexpr (add) {
        out[r * out_stride + c] += sums[r * stride + c];
      } else {
        out[r * out_stride + c] = narrow<O>(sums[r * stride + c]);
      }
    }
  }
}

template <typename T>
void multiply_task(const MatMul& a, const MatMulPlan& plan, int64_t task, Acc<T>* scratch) {
  using A = Acc<T>;
  const int64_t m0 = task / plan.column_blocks * plan.rows,
                n0 = task % plan.column_blocks * plan.columns;
  const int64_t rows = min_of(plan.rows, a.m - m0), columns = min_of(plan.columns, a.n - n0);
  A* packed_a = scratch;
  A* packed_b = packed_a + plan.rows * plan.depth;
  A* sums = packed_b + plan.columns * plan.depth;
  const Operand<T> left{static_cast<const T*>(a.a), a.a_m, a.a_k},
      right{static_cast<const T*>(a.b), a.b_n, a.b_k};
  const int64_t padded_rows = round_up(rows, kRowMultiple),
                padded_columns = round_up(columns, kColumnMultiple);
  for (int64_t k0 = 0; k0 < a.k; k0 += plan.depth) {
    const int64_t depth = min_of(plan.depth, a.k - k0);
    pack<kTileRows>(left, m0, rows, padded_rows, k0, depth, packed_a);
    pack<kTileColumns<A>>(right, n0, columns, padded_columns, k0, depth, packed_b);
    multiply_block(packed_a, packed_b, padded_rows, padded_columns, depth, k0 > 0, sums);
  }
  if (a.k == 0) {
    for (int64_t i = 0; i < padded_rows * padded_columns; ++i) sums[i] = 0;
  }
  if (a.accumulate) {
    write_block<T, A, true>(sums, padded_columns, rows, columns,
                            static_cast<A*>(a.out) + m0 * a.out_m + n0, a.out_m);
  } else if (a.wide_out) {
    write_block<T, A, false>(sums, padded_columns, rows, columns,
                             static_cast<A*>(a.out) + m0 * a.out_m + n0, a.out_m);
  } else {
    write_block<T, T, false>(sums, padded_columns, rows, columns,
                             static_cast<T*>(a.out) + m0 * a.out_m + n0, a.out_m);
  }
}

template <typename T> void multiply(const MatMul& a) {
  const MatMulPlan plan = plan_matmul(a.m, a.n, a.k, omp_get_max_threads());
#pragma omp parallel for schedule(dynamic, 1) num_threads(plan.threads)
  for (int64_t task = 0; task < plan.tasks(); ++task) {
    multiply_task<T>(
        a, plan, task,
        static_cast<Acc<T>*>(a.workspace) + omp_get_thread_num() * plan.workspace_per_thread());
  }
}

}  // namespace

void run(const MatMul& a) {
  for_type(a.dtype, [&](auto t) { multiply<decltype(t)>(a); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
