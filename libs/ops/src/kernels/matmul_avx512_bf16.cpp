// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include "kernels/avx512_bf16.h"
#include "kernels/bf16_kernels.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

struct Operand {
  const bf16* data;
  int64_t step, step_k;
};

/// out[panel][k / 2][lane] = (x[first + lane, k0 + k], x[…, k0 + k + 1]), zero where a lane passes
/// `count` or k `depth`.
void pack_any(const Operand& x, int64_t first, int64_t count, int width, int64_t k0, int64_t depth,
              uint32_t* out) {
  const int64_t pairs = (depth + 1) / 2;
  for (int64_t p = 0; p < count; p += width, out += pairs * width) {
    const int64_t lanes = min_of(width, count - p);
    const bf16* panel = x.data + (first + p) * x.step + k0 * x.step_k;
    for (int64_t k = 0; k < pairs; ++k) {
      for (int64_t i = 0; i < width; ++i) {
        const bf16* at = panel + i * x.step + 2 * k * x.step_k;
        const uint32_t low = i < lanes ? at[0].bits : 0;
        const uint32_t high = i < lanes && 2 * k + 1 < depth ? at[x.step_k].bits : 0;
        out[k * width + i] = low | high << 16;
      }
    }
  }
}

/// The same for lanes that are neighbours in memory (weight gradients), kRows or kColumns wide.
void pack_neighbours(const Operand& x, int64_t first, int64_t count, int width, int64_t k0,
                     int64_t depth, uint32_t* out) {
  const int64_t pairs = (depth + 1) / 2;
  for (int64_t k = 0; k < pairs; ++k) {
    const bf16* top = x.data + first + (k0 + 2 * k) * x.step_k;
    const bool has_second = 2 * k + 1 < depth;
    // The next rows lie a whole stride away, which the hardware's prefetcher does not follow across
    // pages.
    if (2 * k + 17 < depth) {
      for (int64_t c = 0; c < count; c += 32) {
        _mm_prefetch(reinterpret_cast<const char*>(top + 16 * x.step_k + c), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(top + 17 * x.step_k + c), _MM_HINT_T0);
      }
    }
    for (int64_t p = 0; p < count; p += width) {
      const __mmask32 mask = column_mask(0, min_of(width, count - p)),
                      second = has_second ? mask : 0;
      uint32_t* to = out + (p / width * pairs + k) * width;
      if (width == kColumns) {
        interleave(_mm512_maskz_loadu_epi16(mask, top + p),
                   _mm512_maskz_loadu_epi16(second, top + x.step_k + p), to);
      } else {
        const __m256i low = _mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask), top + p);
        const __m256i high =
            _mm256_maskz_loadu_epi16(static_cast<__mmask16>(second), top + x.step_k + p);
        _mm512_mask_storeu_epi32(
            to, (1u << kRows) - 1,
            _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                            _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
      }
    }
  }
}

void pack(const Operand& x, int64_t first, int64_t count, int width, int64_t k0, int64_t depth,
          uint32_t* out) {
  if (x.step == 1) {
    pack_neighbours(x, first, count, width, k0, depth, out);
  } else if (x.step_k == 1 && width == kColumns && depth % 2 == 0) {
    pack_along_rows(x.data + first * x.step + k0, x.step, count, depth, out);
  } else {
    pack_any(x, first, count, width, k0, depth, out);
  }
}

/// One block of the result; `sums` [rows, columns] in float.
void multiply_block(const uint32_t* a, const uint32_t* b, int64_t rows, int64_t columns,
                    int64_t pairs, bool add, float* sums) {
  for (int64_t p = 0; p < columns; p += kColumns) {
    for (int64_t r = 0; r < rows; r += kRows) {
      float* out = sums + r * columns + p;
      tile_pairs(a + r * pairs, 1, kRows, b + p * pairs, kColumns, pairs,
                 [&](int i, __m512 left, __m512 right) {
                   if (add) {
                     add_to(out + i * columns, left, right);
                   } else {
                     set_to(out + i * columns, left, right);
                   }
                 });
    }
  }
}

void write_block(const MatMul& a, const float* sums, int64_t stride, int64_t m0, int64_t n0,
                 int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = sums + r * stride;
    const int64_t at = (m0 + r) * a.out_m + n0;
    if (a.accumulate) {
      float* to = static_cast<float*>(a.out) + at;
      for (int64_t c = 0; c < columns; ++c) to[c] += from[c];
    } else if (a.wide_out) {
      float* to = static_cast<float*>(a.out) + at;
      for (int64_t c = 0; c < columns; ++c) to[c] = from[c];
    } else {
      bf16* to = static_cast<bf16*>(a.out) + at;
      for (int64_t c = 0; c < columns; ++c) to[c] = narrow<bf16>(from[c]);
    }
  }
}

void multiply_task(const MatMul& a, const MatMulPlan& plan, int64_t task, float* scratch) {
  const int64_t m0 = task / plan.column_blocks * plan.rows,
                n0 = task % plan.column_blocks * plan.columns;
  const int64_t rows = min_of(plan.rows, a.m - m0), columns = min_of(plan.columns, a.n - n0);
  const int64_t padded_rows = round_up(rows, kRows), padded_columns = round_up(columns, kColumns);
  const int64_t depth = 2 * plan.depth;  // pairs take half the room of floats
  auto* packed_a = reinterpret_cast<uint32_t*>(scratch);
  uint32_t* packed_b = packed_a + plan.rows * plan.depth;
  float* sums = scratch + (plan.rows + plan.columns) * plan.depth;
  const Operand left{static_cast<const bf16*>(a.a), a.a_m, a.a_k},
      right{static_cast<const bf16*>(a.b), a.b_n, a.b_k};
  for (int64_t k0 = 0; k0 < a.k; k0 += depth) {
    const int64_t part = min_of(depth, a.k - k0);
    pack(left, m0, rows, kRows, k0, part, packed_a);
    pack(right, n0, columns, kColumns, k0, part, packed_b);
    multiply_block(packed_a, packed_b, padded_rows, padded_columns, (part + 1) / 2, k0 > 0, sums);
  }
  if (a.k == 0) fill(sums, sums + padded_rows * padded_columns, 0.f);
  write_block(a, sums, padded_columns, m0, n0, rows, columns);
}

}  // namespace

void run(const MatMul& a) {
  const MatMulPlan plan = plan_matmul(a.m, a.n, a.k, omp_get_max_threads());
#pragma omp parallel for schedule(dynamic, 1) num_threads(plan.threads)
  for (int64_t task = 0; task < plan.tasks(); ++task) {
    multiply_task(
        a, plan, task,
        static_cast<float*>(a.workspace) + omp_get_thread_num() * plan.workspace_per_thread());
  }
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
