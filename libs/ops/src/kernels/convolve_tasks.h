// SPDX-License-Identifier: Apache-2.0
/// What the forms of Convolve share: bands of lines as tasks, results written, sums joined. Only for
/// files compiled once per level.
#pragma once

#include <omp.h>

#include "kernels/convolve_plan.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// Lines of one task: `count` lines of the result from `first` on, of one picture.
struct Band {
  int64_t picture, first, count;

  Band(const ConvolveShape& shape, const ConvolvePlan& plan, int64_t task)
      : picture(task / plan.bands),
        first(task % plan.bands * plan.lines),
        count(min_of(plan.lines, shape.out_height - first)) {}
};

/// The part of a padded line of `pixels` that lies inside x: pixels [begin, end).
struct Inside {
  int64_t begin, end;

  Inside(const ConvolveShape& s, int64_t pixels)
      : begin(min_of(max_of(s.pad_left, 0), pixels)),
        end(max_of(begin, min_of(pixels, s.pad_left + s.width))) {}
};

/// The first pixel of x that `inside` names in line l of the band, or null where there is no line.
template <typename T>
const T* band_line(const T* x, const ConvolveShape& s, const Band& band, const Inside& inside,
                   int64_t l) {
  const int64_t y = band.first + l - s.pad_top;
  if (y < 0 || y >= s.height) return nullptr;
  return x + ((band.picture * s.height + y) * s.width + inside.begin - s.pad_left) * s.channels;
}

/// Rows [first, first + count) of a band's sums [count, padded_features], those that do not wrap.
template <typename T>
void write_rows(const Convolve& a, const ConvolvePlan& plan, const Band& band, int64_t first,
                int64_t count, const Acc<T>* sums) {
  const ConvolveShape& s = a.shape;
  const T* bias = static_cast<const T*>(a.bias);
  const int64_t end = min_of(first + count, band.count * plan.line);
  for (int64_t r = first; r < end; ++r, sums += plan.padded_features) {
    const int64_t line = r / plan.line, w = r % plan.line;
    if (w >= s.out_width) continue;
    T* out = static_cast<T*>(a.out) +
             ((band.picture * s.out_height + band.first + line) * s.out_width + w) * s.features;
    if (bias) {
      for (int64_t o = 0; o < s.features; ++o) out[o] = narrow<T>(sums[o] + wide(bias[o]));
    } else {
      for (int64_t o = 0; o < s.features; ++o) out[o] = narrow<T>(sums[o]);
    }
  }
}

/// pack(weight), then convolve(plan, band, weight, scratch) for every band.
template <typename A, typename Pack, typename ConvolveBand>
void for_bands(const Convolve& a, const Pack& pack, const ConvolveBand& convolve_band) {
  const ConvolvePlan plan = plan_convolve(a.shape, omp_get_max_threads());
  A* weight = static_cast<A*>(a.workspace);
  A* scratch = weight + plan.weight_elements;
  pack(weight);
#pragma omp parallel for schedule(dynamic, 1) num_threads(plan.threads)
  for (int64_t task = 0; task < plan.tasks(a.shape); ++task) {
    convolve_band(plan, Band(a.shape, plan, task), weight,
                  scratch + omp_get_thread_num() * plan.forward_scratch());
  }
}

/// dweight[o, c, i, j] = Σ_b sums[b][i][o][j, c]
template <typename A>
void join_sums(const ConvolveWeight& a, const ConvolvePlan& plan, int64_t count, const A* sums) {
  const ConvolveShape& s = a.shape;
  const int64_t taps = s.kernel_h * s.kernel_w, elements = plan.gradient_elements(s);
#pragma omp parallel for schedule(static) if (count * elements > kParallelGrain)
  for (int64_t o = 0; o < s.features; ++o) {
    A* dweight = static_cast<A*>(a.dweight) + o * s.channels * taps;
    for (int64_t t = 0; t < taps; ++t) {
      const A* from = sums + (t / s.kernel_w * plan.gradient_rows + o) * plan.gradient_columns +
                      t % s.kernel_w * s.channels;
      for (int64_t c = 0; c < s.channels; ++c) {
        A total = 0;
        for (int64_t b = 0; b < count; ++b) total += from[b * elements + c];
        dweight[c * taps + t] = total;
      }
    }
  }
}

/// add_band(plan, band, scratch, sums) for every band, sums [kernel_h, gradient_rows,
/// gradient_columns] of its block, and the blocks joined.
template <typename A, typename AddBand>
void sum_bands(const ConvolveWeight& a, const AddBand& add_band) {
  const ConvolvePlan plan = plan_convolve(a.shape, omp_get_max_threads());
  const int64_t tasks = plan.tasks(a.shape), count = min_of(kConvolveSums, tasks);
  const int64_t elements = plan.gradient_elements(a.shape);
  A* sums = static_cast<A*>(a.workspace);
  A* scratch = sums + count * elements;
#pragma omp parallel for schedule(static) num_threads(min_of(kConvolveSums, plan.threads))
  for (int64_t b = 0; b < count; ++b) {
    A* sum = sums + b * elements;
    fill(sum, sum + elements, A(0));
    for (int64_t task = b * tasks / count; task < (b + 1) * tasks / count; ++task) {
      add_band(plan, Band(a.shape, plan, task),
               scratch + omp_get_thread_num() * plan.gradient_scratch(), sum);
    }
  }
  join_sums(a, plan, count, sums);
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
