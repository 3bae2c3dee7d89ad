// SPDX-License-Identifier: Apache-2.0
/// Pieces that attention's forward and backward share.
#pragma once

#include <cmath>

#include "kernels/attention_driver.h"
#include "kernels/tile.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

/// out[panel][k][lane] = x[panel · kTileColumns + lane, k]; lanes past the rows are zero up to
/// kColumnMultiple.
template <typename T>
void pack_transposed(HeadRows<T> x, int64_t rows, int64_t width, Acc<T>* out) {
  constexpr int64_t kColumns = kTileColumns<Acc<T>>;
  const int64_t padded = round_up(rows, kColumnMultiple);
  for (int64_t p = 0; p < padded; p += kColumns, out += kColumns * width) {
    for (int64_t i = 0; i < kColumns; ++i) {
      if (p + i < rows) {
        const T* from = x.data + (p + i) * x.stride;
        for (int64_t k = 0; k < width; ++k) out[k * kColumns + i] = wide(from[k]);
      } else {
        for (int64_t k = 0; k < width; ++k) out[k * kColumns + i] = 0;
      }
    }
  }
}

/// out[r, 0 … padded_width) = x[r] and zeros.
template <typename T>
void pack_rows(HeadRows<T> x, int64_t rows, int64_t width, int64_t padded_width, Acc<T>* out) {
  for (int64_t r = 0; r < rows; ++r, out += padded_width) {
    const T* from = x.data + r * x.stride;
    for (int64_t k = 0; k < width; ++k) out[k] = wide(from[k]);
    for (int64_t k = width; k < padded_width; ++k) out[k] = 0;
  }
}

/// As pack_rows, times scale, with zero rows up to padded_rows.
template <typename T>
void load_scaled(HeadRows<T> x, int64_t rows, int64_t width, int64_t padded_width,
                 int64_t padded_rows, Acc<T> scale, Acc<T>* out) {
  pack_rows(x, rows, width, padded_width, out);
  for (int64_t i = 0; i < rows * padded_width; ++i) out[i] *= scale;
  for (int64_t i = rows * padded_width; i < padded_rows * padded_width; ++i) out[i] = 0;
}

template <typename A> inline void cap_scores(A* scores, int64_t count, A cap) {
  for (int64_t i = 0; i < count; ++i) scores[i] = cap * std::tanh(scores[i] / cap);
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
