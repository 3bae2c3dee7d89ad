// SPDX-License-Identifier: Apache-2.0
#include "kernels/bf16_kernels.h"
#include "kernels/matmul_driver.h"
#include "kernels/pack_pairs.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

struct Pairs : PairPacking<2>, PairSums {
  using T = bf16;
  using A = float;
  using Left = uint32_t;
  using Right = uint32_t;
  static constexpr int kRows = VEOMNI_LEVEL::kRows, kFewRows = 4, kColumns = VEOMNI_LEVEL::kColumns,
                       kDepth = 2, kTerms = 2;
  static constexpr int64_t kRowStep = kRowMultiple;
  static constexpr bool kTilesAreRows = false;
  struct Scope {};

  static void pack_tiles(const bf16* x, int64_t step, int64_t step_k, int64_t rows, int64_t depth,
                         uint32_t* out) {
    const int64_t pairs = (depth + 1) / 2;
    for (int64_t k = 0; k < pairs; ++k) {
      const bf16* top = x + 2 * k * step_k;
      const bool has_second = 2 * k + 1 < depth;
      if (step == 1 && 2 * k + 17 < depth) {
        prefetch_row(top + 16 * step_k, rows);
        prefetch_row(top + 17 * step_k, rows);
      }
      for (int64_t r = 0; r < rows; r += kRows) {
        uint32_t* to = out + (r / kRows * pairs + k) * kRows;
        const int64_t lanes = min_of(kRows, rows - r);
        if (step == 1) {
          put_lanes(top + r, top + step_k + r, lanes, has_second ? lanes : 0, to);
        } else {
          for (int64_t i = 0; i < kRows; ++i)
            to[i] = i < lanes ? pair_at(top + (r + i) * step, step_k, has_second) : 0;
        }
      }
    }
  }

  template <int rows, typename F>
  static inline __attribute__((always_inline)) void tile(const uint32_t* a, int64_t a_row,
                                                         int64_t a_k, const uint32_t* b,
                                                         int64_t words, F&& f) {
    // Constant distances keep the addresses in the instructions.
    if (a_k == 1) return tile_pairs<rows>(a, a_row, 1, b, kColumns, words, f);
    tile_pairs<rows>(a, 1, kRows, b, kColumns, words, f);
  }

 private:
  /// kRows words of two neighbouring rows.
  static void put_lanes(const bf16* first, const bf16* second, int64_t lanes, int64_t second_lanes,
                        uint32_t* to) {
    const __m256i low =
        _mm256_maskz_loadu_epi16(static_cast<__mmask16>(column_mask(0, lanes)), first);
    const __m256i high =
        _mm256_maskz_loadu_epi16(static_cast<__mmask16>(column_mask(0, second_lanes)), second);
    _mm512_mask_storeu_epi32(to, (1u << kRows) - 1,
                             _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                                             _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
  }
};

}  // namespace

void run(const MatMul& a) { multiply<Pairs>(a); }
void run(const GroupedMatMul& a) { multiply<Pairs>(a); }
void run(const PackMatrix& a) { pack_matrix<Pairs>(a); }

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
