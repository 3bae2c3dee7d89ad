// SPDX-License-Identifier: Apache-2.0
/// AMX's tile registers: eight of 16 rows of 64 bytes. tdpbf16ps adds to a tile of floats c[16][16] the product of
/// a[16][32 terms] and b[16 pairs of terms][16 columns] in bfloat16, b in the layout of panels: one pair of terms a word.
/// Assembly, because compilers' intrinsics for it do not tell the compiler which memory they read.
#pragma once

#include <cstdint>

#include "kernels/avx512_bf16.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {

inline constexpr int kTileSide = 16;   ///< rows of a tile, and its columns in words
inline constexpr int kTileTerms = 32;  ///< of a reduction that one instruction adds

/// Gives the calling thread eight whole tiles while it lives.
class TileScope {
 public:
  TileScope() {
    alignas(64) Configuration all{};
    all.palette = 1;
    for (int i = 0; i < 8; ++i) {
      all.row_bytes[i] = 64;
      all.rows[i] = kTileSide;
    }
    asm volatile("ldtilecfg %0" : : "m"(all));
  }
  ~TileScope() { asm volatile("tilerelease" : : : "memory"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

 private:
  struct Configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
  static_assert(sizeof(Configuration) == 64);
};

template <int tile> inline void zero_tile() { asm volatile("tilezero %%tmm%c0" : : "i"(tile)); }
/// Rows `stride` bytes apart.
template <int tile> inline void load_tile(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(tile) : "memory");
}
template <int tile> inline void store_tile(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(tile) : "memory");
}
/// sum += left · right.
template <int sum, int left, int right> inline void multiply_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(left), "i"(right));
}

inline void prefetch(const uint32_t* at) {
  _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
}

/// Adds kTileTerms terms to the sums in tmm0 … tmm3; see add_products.
template <bool two = true>
inline void add_step(const uint32_t* a, int64_t a_stride, const uint32_t* b, int64_t b_stride) {
  const int64_t a_bytes = a_stride * 4, b_bytes = b_stride * 4;
  load_tile<6>(b, b_bytes);
  load_tile<7>(b + kTileSide, b_bytes);
  load_tile<4>(a, a_bytes);
  if constexpr (two) load_tile<5>(a + kTileSide * a_stride, a_bytes);
  multiply_tiles<0, 4, 6>();
  multiply_tiles<1, 4, 7>();
  if constexpr (two) {
    multiply_tiles<2, 5, 6>();
    multiply_tiles<3, 5, 7>();
  }
}

/// Adds to the sums in tmm0 … tmm3 of row tiles 0 and, with `two`, 1 of a, each row `a_stride` words after the last, times
/// column tiles 0 and 1 of b, whose pairs of terms are `b_stride` words apart. `steps` of kTileTerms terms.
template <bool two = true>
inline void add_products(const uint32_t* a, int64_t a_stride, const uint32_t* b, int64_t b_stride,
                         int64_t steps) {
  for (int64_t k = 0; k < steps; ++k, a += kTileSide, b += kTileSide * b_stride) {
    // Rows of a lie in the second-level cache, and the hardware's prefetcher does not follow tiles.
    for (int r = 0; r < (two ? 2 : 1) * kTileSide; ++r) prefetch(a + r * a_stride + 2 * kTileSide);
    add_step<two>(a, a_stride, b, b_stride);
  }
}
template <bool two = true> inline void zero_sums() {
  zero_tile<0>();
  zero_tile<1>();
  if constexpr (two) {
    zero_tile<2>();
    zero_tile<3>();
  }
}
/// The 2 x 2 tiles from rows `stride` floats apart.
inline void load_sums(const float* from, int64_t stride) {
  const int64_t bytes = stride * 4;
  load_tile<0>(from, bytes);
  load_tile<1>(from + kTileSide, bytes);
  load_tile<2>(from + kTileSide * stride, bytes);
  load_tile<3>(from + kTileSide * stride + kTileSide, bytes);
}
/// The tiles to rows `stride` floats apart.
template <bool two = true> inline void store_sums(float* to, int64_t stride) {
  const int64_t bytes = stride * 4;
  store_tile<0>(to, bytes);
  store_tile<1>(to + kTileSide, bytes);
  if constexpr (two) {
    store_tile<2>(to + kTileSide * stride, bytes);
    store_tile<3>(to + kTileSide * stride + kTileSide, bytes);
  }
}

/// 32 terms of 32 rows that are columns of x, zeros where x has none: rows of pairs, `stride` words apart.
inline void transpose_square(const bf16* x, int64_t step_k, int64_t rows, int64_t depth,
                             uint32_t* out, int64_t stride) {
  const __mmask32 mask = column_mask(0, rows);
  __m512i upper[16], lower[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    const bf16* top = x + 2 * i * step_k;
    const Interleaved words =
        interleave(_mm512_maskz_loadu_epi16(2 * i < depth ? mask : 0, top),
                   _mm512_maskz_loadu_epi16(2 * i + 1 < depth ? mask : 0, top + step_k));
    upper[i] = words.first;
    lower[i] = words.second;
  }
  transpose_words(upper);
  transpose_words(lower);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    _mm512_storeu_si512(out + i * stride, upper[i]);
    _mm512_storeu_si512(out + (16 + i) * stride, lower[i]);
  }
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
