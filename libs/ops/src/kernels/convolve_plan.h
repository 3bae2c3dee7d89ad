// SPDX-License-Identifier: Apache-2.0
/// How a convolution of stride 1 is cut into bands of lines: the same on every level, so that
/// workspaces do not depend on the processor.
#pragma once

#include "kernels/args.h"

namespace veomni::ops::kernels {

/// Sums of a weight's gradient are split into at most this many, whatever the thread count, so that
/// it changes no result.
inline constexpr int64_t kConvolveSums = 8;

/// A band of x is widened, with its padding, to lines of `line` pixels; one task makes `lines` lines
/// of the result from it. A window's taps in one line of the band are then one run of memory, and
/// the windows of all pixels of the band are rows of a matrix that overlap: row r begins at pixel r.
struct ConvolvePlan {
  int64_t line, lines, bands, threads;
  int64_t padded_features;                  ///< of a packed weight
  int64_t gradient_rows, gradient_columns;  ///< of a sum of the weight's gradient, per kernel line
  int64_t band_elements, weight_elements;

  int64_t tasks(const ConvolveShape& s) const { return s.pictures * bands; }
  int64_t forward_scratch() const;
  int64_t gradient_elements(const ConvolveShape& s) const {
    return s.kernel_h * gradient_rows * gradient_columns;
  }
  int64_t gradient_scratch() const { return 2 * band_elements + lines * line * gradient_rows; }
};
ConvolvePlan plan_convolve(const ConvolveShape& shape, int threads);

}  // namespace veomni::ops::kernels
