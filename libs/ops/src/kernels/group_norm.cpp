// SPDX-License-Identifier: Apache-2.0
// Sums are made per channel, vectors of neighbouring channels at a time, and then joined per group:
// a group may be as narrow as one channel.
#include <cmath>

#include "kernels/exponential.h"
#include "kernels/kernel_list.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

// Pixels summed before they are added to the total: bounds rounding in large pictures.
constexpr int64_t kBlockPixels = 128;
constexpr int64_t kStripe = 64;  // channels at a time

/// sums[s][c] = Σ_pixels of what add_terms(i, c0, n, block) adds to block[s][c - c0] for the n
/// channels from c0 of one pixel, whose first value has index i in the picture.
template <int count, typename A, typename AddTerms>
void channel_sums(const GroupShape& shape, A* const (&sums)[count], const AddTerms& add_terms) {
  for (int64_t c0 = 0; c0 < shape.channels; c0 += kStripe) {
    const int64_t n = min_of(kStripe, shape.channels - c0);
    A total[count][kStripe] = {};
    for (int64_t p0 = 0; p0 < shape.pixels; p0 += kBlockPixels) {
      A block[count][kStripe] = {};
      const int64_t end = min_of(p0 + kBlockPixels, shape.pixels);
      for (int64_t p = p0; p < end; ++p) add_terms(p * shape.channels + c0, c0, n, block);
      for (int s = 0; s < count; ++s) {
        for (int64_t c = 0; c < kStripe; ++c) total[s][c] += block[s][c];
      }
    }
    for (int s = 0; s < count; ++s) {
      for (int64_t c = 0; c < n; ++c) sums[s][c0 + c] = total[s][c];
    }
  }
}

/// Replaces the sums of a group's channels by f(group, their total).
template <typename A, typename F> void join_groups(const GroupShape& shape, A* sums, const F& f) {
  const int64_t width = shape.channels / shape.groups;
  for (int64_t g = 0; g < shape.groups; ++g) {
    A sum = 0;
    for (int64_t c = g * width; c < (g + 1) * width; ++c) sum += sums[c];
    fill(sums + g * width, sums + (g + 1) * width, f(g, sum));
  }
}

template <typename A> inline A group_count(const GroupShape& shape) {
  return A(max_of(1, shape.pixels * (shape.channels / shape.groups)));
}

template <typename T, bool silu> void forward_picture(const GroupNormForward& a, int64_t picture) {
  using A = Acc<T>;
  const GroupShape& shape = a.shape;
  const int64_t C = shape.channels;
  const T* x = static_cast<const T*>(a.x) + picture * shape.pixels * C;
  const T* weight = static_cast<const T*>(a.weight);
  const T* bias = static_cast<const T*>(a.bias);
  T* out = static_cast<T*>(a.out) + picture * shape.pixels * C;
  A* mean = static_cast<A*>(a.workspace) + picture * 2 * C;
  A* scale = mean + C;
  const A count = group_count<A>(shape);
  channel_sums<1, A>(shape, {mean}, [x](int64_t i, int64_t, int64_t n, A(&sum)[1][kStripe]) {
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) sum[0][c] += wide(x[i + c]);
  });
  join_groups(shape, mean, [&](int64_t g, A sum) {
    return static_cast<A*>(a.mean)[picture * shape.groups + g] = sum / count;
  });
  channel_sums<1, A>(shape, {scale},
                     [x, mean](int64_t i, int64_t c0, int64_t n, A(&sum)[1][kStripe]) {
#pragma omp simd
                       for (int64_t c = 0; c < n; ++c) {
                         const A d = wide(x[i + c]) - mean[c0 + c];
                         sum[0][c] += d * d;
                       }
                     });
  join_groups(shape, scale, [&](int64_t g, A sum) {
    return static_cast<A*>(a.rstd)[picture * shape.groups + g] =
               A(1) / std::sqrt(sum / count + A(a.eps));
  });
  for (int64_t c = 0; c < C; ++c) scale[c] *= wide(weight[c]);
  for (int64_t p = 0; p < shape.pixels; ++p) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) {
      const A y = (wide(x[p * C + c]) - mean[c]) * scale[c] + wide(bias[c]);
      out[p * C + c] = narrow<T>(silu ? y * sigmoid_of(y) : y);
    }
  }
}

template <typename T, bool silu>
void backward_picture(const GroupNormBackward& a, int64_t picture) {
  using A = Acc<T>;
  const GroupShape& shape = a.shape;
  const int64_t C = shape.channels, width = C / shape.groups;
  const T* x = static_cast<const T*>(a.x) + picture * shape.pixels * C;
  const T* dout = static_cast<const T*>(a.dout) + picture * shape.pixels * C;
  const T* weight = static_cast<const T*>(a.weight);
  const T* bias = static_cast<const T*>(a.bias);
  A* sum = static_cast<A*>(a.workspace) + picture * kGroupNormSums * C;
  A *dot = sum + C, *mean = dot + C, *rstd = mean + C, *group_sum = rstd + C,
    *group_dot = group_sum + C;
  for (int64_t g = 0; g < shape.groups; ++g) {
    const int64_t at = picture * shape.groups + g;
    fill(mean + g * width, mean + (g + 1) * width, static_cast<const A*>(a.mean)[at]);
    fill(rstd + g * width, rstd + (g + 1) * width, static_cast<const A*>(a.rstd)[at]);
  }
  const auto gradient = [weight, bias](A normalised, A d, int64_t c) {
    if constexpr (!silu) return d;
    const A y = normalised * wide(weight[c]) + wide(bias[c]), s = sigmoid_of(y);
    return d * s * (A(1) + y * (A(1) - s));
  };
  channel_sums<2, A>(shape, {sum, dot},
                     [&](int64_t i, int64_t c0, int64_t n, A(&block)[2][kStripe]) {
#pragma omp simd
                       for (int64_t c = 0; c < n; ++c) {
                         const A normalised = (wide(x[i + c]) - mean[c0 + c]) * rstd[c0 + c];
                         const A d = gradient(normalised, wide(dout[i + c]), c0 + c);
                         block[0][c] += d;
                         block[1][c] += d * normalised;
                       }
                     });
  if (!a.dx) return;
  T* dx = static_cast<T*>(a.dx) + picture * shape.pixels * C;
  const A count = group_count<A>(shape);
  for (int64_t c = 0; c < C; ++c) {
    group_sum[c] = sum[c] * wide(weight[c]);
    group_dot[c] = dot[c] * wide(weight[c]);
  }
  const auto average = [count](int64_t, A total) { return total / count; };
  join_groups(shape, group_sum, average);
  join_groups(shape, group_dot, average);
  for (int64_t p = 0; p < shape.pixels; ++p) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) {
      const A normalised = (wide(x[p * C + c]) - mean[c]) * rstd[c];
      const A d = gradient(normalised, wide(dout[p * C + c]), c);
      dx[p * C + c] =
          narrow<T>((d * wide(weight[c]) - group_sum[c] - normalised * group_dot[c]) * rstd[c]);
    }
  }
}

template <typename T, bool silu> void forward(const GroupNormForward& a) {
  const int64_t count = a.shape.pictures * a.shape.pixels * a.shape.channels;
#pragma omp parallel for schedule(static) if (count > kParallelGrain)
  for (int64_t n = 0; n < a.shape.pictures; ++n) forward_picture<T, silu>(a, n);
}

template <typename T, bool silu> void backward(const GroupNormBackward& a) {
  using A = Acc<T>;
  const GroupShape& shape = a.shape;
  const int64_t C = shape.channels, count = shape.pictures * shape.pixels * C;
#pragma omp parallel for schedule(static) if (count > kParallelGrain)
  for (int64_t n = 0; n < shape.pictures; ++n) backward_picture<T, silu>(a, n);
  const A* sums = static_cast<const A*>(a.workspace);
  A *dweight = static_cast<A*>(a.dweight), *dbias = static_cast<A*>(a.dbias);
  if (dweight) fill(dweight, dweight + C, A(0));
  if (dbias) fill(dbias, dbias + C, A(0));
  for (int64_t n = 0; n < shape.pictures; ++n, sums += kGroupNormSums * C) {
    for (int64_t c = 0; dbias && c < C; ++c) dbias[c] += sums[c];
    for (int64_t c = 0; dweight && c < C; ++c) dweight[c] += sums[C + c];
  }
}

}  // namespace

void run(const GroupNormForward& a) {
  for_type(a.dtype, [&](auto t) {
    using T = decltype(t);
    a.shape.silu ? forward<T, true>(a) : forward<T, false>(a);
  });
}
void run(const GroupNormBackward& a) {
  for_type(a.dtype, [&](auto t) {
    using T = decltype(t);
    a.shape.silu ? backward<T, true>(a) : backward<T, false>(a);
  });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
