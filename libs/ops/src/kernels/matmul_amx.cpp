// SPDX-License-Identifier: Apache-2.0
#include "kernels/amx.h"
#include "kernels/bf16_kernels.h"
#include "kernels/matmul_driver.h"
#include "kernels/pack_pairs.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// Squares of 2 x 2 tiles.
struct Squares : PairPacking<kTileTerms>, PairSums {
  using T = bf16;
  using A = float;
  using Left = uint32_t;
  using Right = uint32_t;
  static constexpr int kRows = kAmxRows, kFewRows = kTileSide, kColumns = VEOMNI_LEVEL::kColumns,
                       kDepth = 2, kTerms = kTileTerms;
  static_assert(kRows == 2 * kTileSide && kColumns == 2 * kTileSide);
  static constexpr int64_t kRowStep = kRows;
  static constexpr bool kTilesAreRows = true;
  using Scope = TileScope;

  /// Columns become rows of pairs, `stride` words apart.
  static void pack_tiles(const bf16* x, int64_t step, int64_t step_k, int64_t rows, int64_t depth,
                         uint32_t* out, int64_t stride) {
    const int64_t count = words_of(depth);
    for (int64_t k = 0; k < count; k += kTileSide) {
      for (int64_t r = 0; r < rows; r += kRows) {
        uint32_t* to = out + r * stride + k;
        const bf16* from = x + r * step + 2 * k * step_k;
        if (step == 1) {
          transpose_square(from, step_k, rows - r, depth - 2 * k, to, stride);
        } else {
          gather_square(from, step, step_k, rows - r, depth - 2 * k, to, stride);
        }
      }
    }
  }

  template <int rows, typename F>
  static inline __attribute__((always_inline)) void tile(const uint32_t* a, int64_t a_row, int64_t,
                                                         const uint32_t* b, int64_t words, F&& f) {
    constexpr bool two = rows > kTileSide;
    alignas(64) float sums[rows * kColumns];
    zero_sums<two>();
    add_products<two>(a, a_row, b, kColumns, (words + kTileSide - 1) / kTileSide);
    store_sums<two>(sums, kColumns);
    for (int r = 0; r < rows; ++r)
      f(r, _mm512_load_ps(sums + r * kColumns), _mm512_load_ps(sums + r * kColumns + kTileSide));
  }

 private:
  static void gather_square(const bf16* x, int64_t step, int64_t step_k, int64_t rows,
                            int64_t depth, uint32_t* out, int64_t stride) {
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t k = 0; k < kTileSide; ++k) {
        out[r * stride + k] = r < rows && 2 * k < depth ? pair_at(x + r * step + 2 * k * step_k,
                                                                  step_k, 2 * k + 1 < depth)
                                                        : 0;
      }
    }
  }
};

}  // namespace

void run(const MatMul& a) { multiply<Squares>(a); }
void run(const GroupedMatMul& a) { multiply<Squares>(a); }
void run(const PackMatrix& a) { pack_matrix<Squares>(a); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
