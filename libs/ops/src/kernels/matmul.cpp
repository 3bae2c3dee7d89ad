// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "kernels/kernel_list.h"
#include "kernels/lanes.h"
#include "kernels/matmul_driver.h"
#include "kernels/tile.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// out[k · width + i] = x[i · step + k] for 4 x 4 elements.
template <int width> inline void transpose_4x4(const float* x, int64_t step, float* out) {
  typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
  auto row = [&](int i) { return *reinterpret_cast<const Four*>(x + i * step); };
  const Four a = __builtin_shufflevector(row(0), row(1), 0, 4, 1, 5),
             b = __builtin_shufflevector(row(2), row(3), 0, 4, 1, 5);
  const Four c = __builtin_shufflevector(row(0), row(1), 2, 6, 3, 7),
             d = __builtin_shufflevector(row(2), row(3), 2, 6, 3, 7);
  auto column = [&](int k) -> Four& { return *reinterpret_cast<Four*>(out + k * width); };
  column(0) = __builtin_shufflevector(a, b, 0, 1, 4, 5);
  column(1) = __builtin_shufflevector(a, b, 2, 3, 6, 7);
  column(2) = __builtin_shufflevector(c, d, 0, 1, 4, 5);
  column(3) = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

/// Operands term by term: a's are widened when they are copied, b's when a tile reads them.
template <typename Type> struct Terms {
  using T = Type;
  using A = Acc<T>;
  using Left = A;
  using Right = T;
  static constexpr int kRows = kTileRows, kFewRows = kTileRows / 3, kColumns = kTileColumns<A>,
                       kDepth = 1, kTerms = 1;
  static constexpr int64_t kRowStep = kRowMultiple;
  static constexpr bool kTilesAreRows = false;
  struct Scope {};

  static void pack_panels(const T* x, int64_t step, int64_t step_k, int64_t columns, int64_t depth,
                          T* out, int64_t panel_words) {
    for (int64_t n = 0; n < columns; n += kColumns, out += panel_words)
      pack<kColumns>(x + n * step, step, step_k, min_of(kColumns, columns - n), depth, out,
                     [](T value) { return value; });
  }

  static void pack_rows(const T* x, int64_t step, int64_t rows, int64_t padded, int64_t depth,
                        A* out, int64_t stride) {
    for (int64_t r = 0; r < padded; ++r, out += stride) {
      for (int64_t k = 0; k < depth; ++k) out[k] = r < rows ? wide(x[r * step + k]) : 0;
    }
  }

  static void pack_tiles(const T* x, int64_t step, int64_t step_k, int64_t rows, int64_t depth,
                         A* out) {
    for (int64_t r = 0; r < rows; r += kRows, out += kRows * depth)
      pack<kRows>(x + r * step, step, step_k, min_of(kRows, rows - r), depth, out,
                  [](T value) { return wide(value); });
  }

  template <int rows, typename F>
  static inline __attribute__((always_inline)) void tile(const A* a, int64_t a_row, int64_t a_k,
                                                         const T* b, int64_t words, F&& f) {
    // Constant distances keep the addresses in the instructions.
    if (a_k == 1) return tile_sums<rows>(a, a_row, 1, b, kColumns, words, f);
    tile_sums<rows>(a, 1, kRows, b, kColumns, words, f);
  }

  static void put(A* to, Vector<A> left, Vector<A> right) {
    store(to, left);
    store(to + kLanes<A>, right);
  }
  static void add(A* to, Vector<A> left, Vector<A> right) {
    put(to, load(to) + left, load(to + kLanes<A>) + right);
  }
  static void put_narrow(T* to, Vector<A> left, Vector<A> right) {
    store(to, left);
    store(to + kLanes<A>, right);
  }
  static void widen(const T* from, Vector<A>& left, Vector<A>& right) {
    left = load(from);
    right = load(from + kLanes<A>);
  }
  static void stream(A* to, Vector<A> left, Vector<A> right) {
    VEOMNI_LEVEL::stream(to, left);
    VEOMNI_LEVEL::stream(to + kLanes<A>, right);
  }
  static void stream_narrow(T* to, Vector<A> left, Vector<A> right) {
    if constexpr (std::is_same_v<T, A>) {
      stream(to, left, right);
    } else {
      put_narrow(to, left, right);
    }
  }

 private:
  /// out[k][lane] of `width` lanes, zero from `lanes` on.
  template <int width, typename O, typename Convert>
  static void pack(const T* x, int64_t step, int64_t step_k, int64_t lanes, int64_t depth, O* out,
                   Convert convert) {
    if (lanes == width && step == 1) {
      for (int64_t k = 0; k < depth; ++k) {
        for (int i = 0; i < width; ++i) out[k * width + i] = convert(x[k * step_k + i]);
      }
      return;
    }
    if (lanes < width) {
      for (int64_t i = 0; i < width * depth; ++i) out[i] = O{};
    }
    int64_t done = 0;
    if constexpr (std::is_same_v<T, float> && width % 4 == 0) {
      if (lanes == width && step_k == 1) {
        for (; done + 4 <= depth; done += 4) {
          for (int i = 0; i < width; i += 4)
            transpose_4x4<width>(x + i * step + done, step, out + done * width + i);
        }
      }
    }
    // Short runs of k, so that a panel's lines stay in L1 while its lanes are filled one by one.
    for (int64_t k1 = done; k1 < depth; k1 += 16) {
      const int64_t end = min_of(depth, k1 + 16);
      for (int64_t i = 0; i < lanes; ++i) {
        for (int64_t k = k1; k < end; ++k) out[k * width + i] = convert(x[i * step + k * step_k]);
      }
    }
  }
};

}  // namespace

void run(const MatMul& a) {
  for_type(a.dtype, [&](auto t) { multiply<Terms<decltype(t)>>(a); });
}
void run(const GroupedMatMul& a) {
  for_type(a.dtype, [&](auto t) { multiply<Terms<decltype(t)>>(a); });
}
void run(const PackMatrix& a) {
  for_type(a.dtype, [&](auto t) { pack_matrix<Terms<decltype(t)>>(a); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
