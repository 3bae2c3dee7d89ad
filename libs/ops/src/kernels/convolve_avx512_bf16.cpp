// SPDX-License-Identifier: Apache-2.0
// Convolutions of stride 1 in pairs of bfloat16: along a window's run of channels for the result,
// along pixels for the gradient of the weight.
#include "kernels/avx512_bf16.h"
#include "kernels/bf16_kernels.h"
#include "kernels/convolve_tasks.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// The band's part of x with zeros for padding and past its end, `width` >= channels values a pixel,
/// until `end`.
void pad_band(const bf16* x, const ConvolveShape& s, const ConvolvePlan& plan, const Band& band,
              int64_t width, bf16* out, bf16* end) {
  const Inside inside(s, plan.line);
  const int64_t lines = band.count + s.kernel_h - 1;
  for (int64_t l = 0; l < lines; ++l, out += plan.line * width) {
    const bf16* line = band_line(x, s, band, inside, l);
    bf16 *pixels = out + inside.begin * width, *after = out + inside.end * width;
    if (!line) {
      fill(out, out + plan.line * width, bf16{0});
      continue;
    }
    fill(out, pixels, bf16{0});
    if (width == s.channels) {
      std::memcpy(pixels, line, (after - pixels) * sizeof(bf16));
    } else {
      for (bf16* pixel = pixels; pixel < after; pixel += width, line += s.channels) {
        std::memcpy(pixel, line, s.channels * sizeof(bf16));
        fill(pixel + s.channels, pixel + width, bf16{0});
      }
    }
    fill(after, out + plan.line * width, bf16{0});
  }
  fill(out, end, bf16{0});
}

int64_t even(int64_t channels) { return round_up(channels, 2); }

/// out[panel][i, j, c / 2][lane]: pairs of channels, an odd last one beside zero.
void pack_weight(const Convolve& a, uint32_t* out) {
  const ConvolveShape& s = a.shape;
  const bf16* weight = static_cast<const bf16*>(a.weight);
  const int64_t pairs = even(s.channels) / 2, taps = s.kernel_h * s.kernel_w;
  for (int64_t o0 = 0; o0 < s.features; o0 += kColumns, out += taps * pairs * kColumns) {
    const int64_t lanes = min_of(kColumns, s.features - o0);
    if (lanes < kColumns) fill(out, out + taps * pairs * kColumns, uint32_t{0});
    for (int64_t p = 0; p < pairs; ++p) {
      const bool has_second = 2 * p + 1 < s.channels;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const bf16* from = weight + (o0 + lane) * a.weight_o + 2 * p * a.weight_c;
        for (int64_t t = 0; t < taps; ++t) {
          const bf16* tap = from + t / s.kernel_w * a.weight_i + t % s.kernel_w * a.weight_j;
          const uint32_t high = has_second ? tap[a.weight_c].bits : 0;
          out[(t * pairs + p) * kColumns + lane] = tap->bits | high << 16;
        }
      }
    }
  }
}

void convolve_band(const Convolve& a, const ConvolvePlan& plan, const Band& band,
                   const uint32_t* weight, float* scratch) {
  const ConvolveShape& s = a.shape;
  auto* x = reinterpret_cast<bf16*>(scratch);
  float* sums = scratch + plan.band_elements;
  const int64_t width = even(s.channels), run = s.kernel_w * width / 2, depth = s.kernel_h * run;
  pad_band(static_cast<const bf16*>(a.x), s, plan, band, width, x,
           x + plan.band_elements / s.channels * width);
  for (int64_t r0 = 0; r0 < band.count * plan.line; r0 += kRows) {
    for (int64_t o = 0; o < s.features; o += kColumns) {
      for (int64_t i = 0; i < s.kernel_h; ++i) {
        tile_pairs(words(x + (i * plan.line + r0) * width), width / 2, 1,
                   weight + o * depth + i * run * kColumns, kColumns, run,
                   [&](int r, __m512 left, __m512 right) {
                     float* out = sums + r * plan.padded_features + o;
                     if (i > 0) {
                       add_to(out, left, right);
                     } else {
                       set_to(out, left, right);
                     }
                   });
      }
    }
    write_rows<bf16>(a, plan, band, r0, kRows, sums);
  }
}

/// out[e] = (x[e], x[e + channels]): every pixel beside its right neighbour.
void pair_neighbours(const bf16* x, int64_t channels, int64_t count, uint32_t* out) {
  for (int64_t e = 0; e < count; e += kColumns) {
    interleave(_mm512_loadu_si512(x + e), _mm512_loadu_si512(x + e + channels), out + e);
  }
}

/// out[p / 2][o] = dout of pixels p and p + 1 of the band's lines, zeros where windows wrap.
void pair_gradient(const bf16* dout, const ConvolveShape& s, const ConvolvePlan& plan,
                   const Band& band, int64_t pairs, uint32_t* out) {
  constexpr int64_t kLanes = 16;
  const bf16* first = dout + (band.picture * s.out_height + band.first) * s.out_width * s.features;
  const auto pixel = [&](int64_t p) -> const bf16* {
    const int64_t line = p / plan.line, w = p % plan.line;
    return line < band.count && w < s.out_width ? first + (line * s.out_width + w) * s.features
                                                : nullptr;
  };
  for (int64_t k = 0; k < pairs; ++k, out += plan.gradient_rows) {
    const bf16 *low = pixel(2 * k), *high = pixel(2 * k + 1);
    for (int64_t o = 0; o < plan.gradient_rows; o += kLanes) {
      const auto mask = static_cast<__mmask16>(column_mask(0, s.features - o));
      const auto load = [&](const bf16* from) {
        return _mm512_cvtepu16_epi32(from ? _mm256_maskz_loadu_epi16(mask, from + o)
                                          : _mm256_setzero_si256());
      };
      _mm512_mask_storeu_epi32(out + o,
                               static_cast<__mmask16>(column_mask(0, plan.gradient_rows - o)),
                               _mm512_or_si512(load(low), _mm512_slli_epi32(load(high), 16)));
    }
  }
}

void add_weight_gradient(const ConvolveWeight& a, const ConvolvePlan& plan, const Band& band,
                         float* scratch, float* sums) {
  const ConvolveShape& s = a.shape;
  auto* x = reinterpret_cast<bf16*>(scratch);
  auto* x_pairs = reinterpret_cast<uint32_t*>(scratch + plan.band_elements);
  auto* dout_pairs = reinterpret_cast<uint32_t*>(scratch + 2 * plan.band_elements);
  const int64_t pairs = (band.count * plan.line - (plan.line - s.out_width) + 1) / 2;
  pad_band(static_cast<const bf16*>(a.x), s, plan, band, s.channels, x, x + plan.band_elements);
  pair_neighbours(x, s.channels, (band.count + s.kernel_h - 1) * plan.line * s.channels + kColumns,
                  x_pairs);
  pair_gradient(static_cast<const bf16*>(a.dout), s, plan, band, pairs, dout_pairs);
  for (int64_t i = 0; i < s.kernel_h; ++i) {
    for (int64_t k = 0; k < s.kernel_w * s.channels; k += kColumns) {
      for (int64_t o = 0; o < s.features; o += kRows) {
        float* out = sums + (i * plan.gradient_rows + o) * plan.gradient_columns + k;
        tile_pairs(dout_pairs + o, 1, plan.gradient_rows, x_pairs + i * plan.line * s.channels + k,
                   2 * s.channels, pairs, [&](int r, __m512 left, __m512 right) {
                     add_to(out + r * plan.gradient_columns, left, right);
                   });
      }
    }
  }
}

}  // namespace

void run(const Convolve& a) {
  for_bands<float>(
      a, [&](float* weight) { pack_weight(a, reinterpret_cast<uint32_t*>(weight)); },
      [&](const ConvolvePlan& plan, const Band& band, const float* weight, float* scratch) {
        convolve_band(a, plan, band, reinterpret_cast<const uint32_t*>(weight), scratch);
      });
}
void run(const ConvolveWeight& a) {
  sum_bands<float>(a, [&](const ConvolvePlan& plan, const Band& band, float* scratch, float* sums) {
    add_weight_gradient(a, plan, band, scratch, sums);
  });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
