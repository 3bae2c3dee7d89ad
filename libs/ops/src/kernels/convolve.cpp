// SPDX-License-Identifier: Apache-2.0
// Convolutions of stride 1 without windows laid out: see ConvolvePlan. Rows whose windows wrap round
// the end of a line are computed too and dropped.
#include "kernels/convolve_tasks.h"
#include "kernels/kernel_list.h"
#include "kernels/tile.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// The band's part of x, widened, with zeros for padding and for what tiles read past its end.
template <typename T>
void widen_band(const T* x, const ConvolveShape& s, const ConvolvePlan& plan, const Band& band,
                Acc<T>* out) {
  using A = Acc<T>;
  A* const end = out + plan.band_elements;
  const Inside inside(s, plan.line);
  for (int64_t l = 0; l < band.count + s.kernel_h - 1; ++l, out += plan.line * s.channels) {
    const T* line = band_line(x, s, band, inside, l);
    A *pixels = out + inside.begin * s.channels, *after = out + inside.end * s.channels;
    if (!line) {
      fill(out, out + plan.line * s.channels, A(0));
      continue;
    }
    fill(out, pixels, A(0));
    for (int64_t i = 0; i < after - pixels; ++i) pixels[i] = wide(line[i]);
    fill(after, out + plan.line * s.channels, A(0));
  }
  fill(out, end, A(0));
}

/// out[panel][i, j, c][lane] = weight(panel · kTileColumns + lane, c, i, j)
template <typename T> void pack_weight(const Convolve& a, Acc<T>* out) {
  using A = Acc<T>;
  const ConvolveShape& s = a.shape;
  constexpr int64_t kLanesOfPanel = kTileColumns<A>;
  const int64_t taps = s.kernel_h * s.kernel_w, depth = taps * s.channels;
  const T* weight = static_cast<const T*>(a.weight);
  for (int64_t o0 = 0; o0 < s.features; o0 += kLanesOfPanel, out += depth * kLanesOfPanel) {
    const int64_t lanes = min_of(kLanesOfPanel, s.features - o0);
    if (lanes < kLanesOfPanel) fill(out, out + depth * kLanesOfPanel, A(0));
    for (int64_t c = 0; c < s.channels; ++c) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const T* from = weight + (o0 + lane) * a.weight_o + c * a.weight_c;
        A* to = out + c * kLanesOfPanel + lane;
        for (int64_t i = 0; i < s.kernel_h; ++i) {
          for (int64_t j = 0; j < s.kernel_w; ++j) {
            to[(i * s.kernel_w + j) * s.channels * kLanesOfPanel] =
                wide(from[i * a.weight_i + j * a.weight_j]);
          }
        }
      }
    }
  }
}

template <typename T>
void convolve_band(const Convolve& a, const ConvolvePlan& plan, const Band& band,
                   const Acc<T>* weight, Acc<T>* scratch) {
  using A = Acc<T>;
  const ConvolveShape& s = a.shape;
  A *x = scratch, *sums = scratch + plan.band_elements;
  widen_band(static_cast<const T*>(a.x), s, plan, band, x);
  const int64_t run = s.kernel_w * s.channels, depth = s.kernel_h * run;
  for (int64_t r0 = 0; r0 < band.count * plan.line; r0 += kTileRows) {
    for (int64_t o = 0; o < s.features; o += kTileColumns<A>) {
      const A* rows = x + r0 * s.channels;
      const A* panel = weight + o * depth;
      tile<false>(rows, s.channels, 1, panel, kTileColumns<A>, run, sums + o, plan.padded_features);
      for (int64_t i = 1; i < s.kernel_h; ++i) {
        tile<true>(rows + i * plan.line * s.channels, s.channels, 1,
                   panel + i * run * kTileColumns<A>, kTileColumns<A>, run, sums + o,
                   plan.padded_features);
      }
    }
    write_rows<T>(a, plan, band, r0, kTileRows, sums);
  }
}

/// The band's dout, widened, a row for every pixel of a band's line: zeros where windows wrap.
template <typename T>
void widen_gradient(const T* dout, const ConvolveShape& s, const ConvolvePlan& plan,
                    const Band& band, Acc<T>* out) {
  using A = Acc<T>;
  for (int64_t l = 0; l < band.count; ++l) {
    const T* line =
        dout + (band.picture * s.out_height + band.first + l) * s.out_width * s.features;
    for (int64_t w = 0; w < s.out_width; ++w, out += plan.gradient_rows) {
      for (int64_t o = 0; o < s.features; ++o) out[o] = wide(line[w * s.features + o]);
      fill(out + s.features, out + plan.gradient_rows, A(0));
    }
    fill(out, out + (plan.line - s.out_width) * plan.gradient_rows, A(0));
    out += (plan.line - s.out_width) * plan.gradient_rows;
  }
}

/// sums[i][o][j, c] += the band's part of dweight[o, c, i, j].
template <typename T>
void add_weight_gradient(const ConvolveWeight& a, const ConvolvePlan& plan, const Band& band,
                         Acc<T>* scratch, Acc<T>* sums) {
  using A = Acc<T>;
  const ConvolveShape& s = a.shape;
  A *x = scratch, *dout = scratch + plan.band_elements;
  widen_band(static_cast<const T*>(a.x), s, plan, band, x);
  widen_gradient(static_cast<const T*>(a.dout), s, plan, band, dout);
  const int64_t pixels = band.count * plan.line - (plan.line - s.out_width);
  for (int64_t i = 0; i < s.kernel_h; ++i) {
    for (int64_t k = 0; k < s.kernel_w * s.channels; k += kTileColumns<A>) {
      for (int64_t o = 0; o < s.features; o += kTileRows) {
        tile<true>(dout + o, 1, plan.gradient_rows, x + i * plan.line * s.channels + k, s.channels,
                   pixels, sums + (i * plan.gradient_rows + o) * plan.gradient_columns + k,
                   plan.gradient_columns);
      }
    }
  }
}

}  // namespace

void run(const Convolve& a) {
  for_type(a.dtype, [&](auto t) {
    using T = decltype(t);
    using A = Acc<T>;
    for_bands<A>(
        a, [&](A* weight) { pack_weight<T>(a, weight); },
        [&](const ConvolvePlan& plan, const Band& band, const A* weight, A* scratch) {
          convolve_band<T>(a, plan, band, weight, scratch);
        });
  });
}
void run(const ConvolveWeight& a) {
  for_type(a.dtype, [&](auto t) {
    using T = decltype(t);
    using A = Acc<T>;
    sum_bands<A>(a, [&](const ConvolvePlan& plan, const Band& band, A* scratch, A* sums) {
      add_weight_gradient<T>(a, plan, band, scratch, sums);
    });
  });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
