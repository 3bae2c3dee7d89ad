// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <type_traits>

#include "kernels/kernel_list.h"
#include "kernels/number.h"
#include "kernels/tile.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

constexpr int kRowsAtOnce = 4;  // that share every load of a code

/// Codes [C, E] -> [C / tile, E, tile], the last tile filled up with codes that are nearest to
/// nothing.
template <typename T, typename A>
void transpose_codes(const T* codebook, int64_t codes, int64_t width, A* out) {
  constexpr int64_t kTile = kTileColumns<A>;
  for (int64_t c0 = 0; c0 < codes; c0 += kTile, out += width * kTile) {
    for (int64_t e = 0; e < width; ++e) {
      for (int64_t c = 0; c < kTile; ++c) {
        out[e * kTile + c] =
            c0 + c < codes ? wide(codebook[(c0 + c) * width + e]) : A(__builtin_inf());
      }
    }
  }
}

/// The smallest distance and the number of its tile, lane by lane.
template <typename A> struct Nearest {
  using Index = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;
  typedef Index Indices __attribute__((vector_size(kVectorBytes)));
  Vector<A> distance[2];
  Indices tile[2];

  Nearest() {
    for (int v = 0; v < 2; ++v) {
      distance[v] = Vector<A>{} + A(__builtin_inf());
      tile[v] = Indices{};
    }
  }

  void take(int v, Vector<A> candidate, int64_t number) {
    const auto closer = candidate < distance[v];
    distance[v] = closer ? candidate : distance[v];
    tile[v] = closer ? Indices{} + static_cast<Index>(number) : tile[v];
  }

  int64_t code() const {
    A best = A(__builtin_inf());
    int64_t index = 0;
    for (int v = 0; v < 2; ++v) {
      for (int lane = 0; lane < kLanes<A>; ++lane) {
        const int64_t candidate = tile[v][lane] * int64_t{kTileColumns<A>} + v * kLanes<A> + lane;
        const A d = distance[v][lane];
        if (d < best || (d == best && d < A(__builtin_inf()) && candidate < index)) {
          best = d;
          index = candidate;
        }
      }
    }
    return index;
  }
};

template <typename T>
void nearest_of_rows(const NearestCode& a, const Acc<T>* codes, int64_t first) {
  using A = Acc<T>;
  const int64_t tiles = (a.codes + kTileColumns<A> - 1) / kTileColumns<A>;
  const T* rows[kRowsAtOnce];
  for (int r = 0; r < kRowsAtOnce; ++r)
    rows[r] = static_cast<const T*>(a.x) + min_of(first + r, a.rows - 1) * a.width;
  Nearest<A> nearest[kRowsAtOnce];
  for (int64_t t = 0; t < tiles; ++t) {
    Vector<A> left[kRowsAtOnce] = {}, right[kRowsAtOnce] = {};
    for (int64_t e = 0; e < a.width; ++e, codes += kTileColumns<A>) {
      const Vector<A> c0 = load(codes), c1 = load(codes + kLanes<A>);
#pragma GCC unroll 4
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const A x = wide(rows[r][e]);
        const Vector<A> d0 = x - c0, d1 = x - c1;
        left[r] += d0 * d0;
        right[r] += d1 * d1;
      }
    }
    for (int r = 0; r < kRowsAtOnce; ++r) {
      nearest[r].take(0, left[r], t);
      nearest[r].take(1, right[r], t);
    }
  }
  for (int r = 0; r < kRowsAtOnce && first + r < a.rows; ++r)
    a.index[first + r] = nearest[r].code();
}

template <typename T> void nearest_code(const NearestCode& a) {
  using A = Acc<T>;
  A* codes = static_cast<A*>(a.workspace);
  transpose_codes(static_cast<const T*>(a.codebook), a.codes, a.width, codes);
#pragma omp parallel for schedule(static) if (a.rows * a.codes * a.width > kParallelGrain)
  for (int64_t first = 0; first < a.rows; first += kRowsAtOnce) nearest_of_rows<T>(a, codes, first);
}

template <typename T> void normalize_forward(const NormalizeForward& a) {
  using A = Acc<T>;
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* x = static_cast<const T*>(a.x) + i * a.width;
    T* out = static_cast<T*>(a.out) + i * a.width;
    A squares = 0;
    for (int64_t j = 0; j < a.width; ++j) squares += wide(x[j]) * wide(x[j]);
    const A norm = std::sqrt(squares), eps = A(a.eps);
    static_cast<A*>(a.norm)[i] = norm;
    // A NaN stays one.
    const A divisor = norm < eps ? eps : norm;
    for (int64_t j = 0; j < a.width; ++j) out[j] = narrow<T>(wide(x[j]) / divisor);
  }
}

template <typename T> void normalize_backward(const NormalizeBackward& a) {
  using A = Acc<T>;
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* x = static_cast<const T*>(a.x) + i * a.width;
    const T* dout = static_cast<const T*>(a.dout) + i * a.width;
    T* dx = static_cast<T*>(a.dx) + i * a.width;
    const A norm = static_cast<const A*>(a.norm)[i], eps = A(a.eps);
    const bool is_short = norm < eps;
    const A divisor = is_short ? eps : norm;
    A dot = 0;
    for (int64_t j = 0; j < a.width; ++j) dot += wide(x[j]) / divisor * wide(dout[j]);
    // Where eps stands for the norm, it does not change with x.
    const A along = is_short ? A(0) : dot / divisor;
    for (int64_t j = 0; j < a.width; ++j)
      dx[j] = narrow<T>((wide(dout[j]) - wide(x[j]) * along) / divisor);
  }
}

template <typename T> void sum_of_squares(const SumOfSquares& a) {
  const T* x = static_cast<const T*>(a.x);
  double* sums = static_cast<double*>(a.sums);
  const int64_t stretches = (a.count + kSquaresStretch - 1) / kSquaresStretch;
#pragma omp parallel for schedule(static) if (a.count > kParallelGrain)
  for (int64_t s = 0; s < stretches; ++s) {
    const int64_t begin = s * kSquaresStretch, end = min_of(begin + kSquaresStretch, a.count);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; ++i) {
      const double value = wide(x[i]);
      sum += value * value;
    }
    sums[s] = sum;
  }
}

template <typename T, bool squared> void error_sum(const ErrorSum& a) {
  using A = Acc<T>;
  const T *left = static_cast<const T*>(a.a), *right = static_cast<const T*>(a.b);
  constexpr int64_t kPart = 4096;  // summed in A; the parts are summed in double
  double sums[kReductionBlocks] = {};
#pragma omp parallel for schedule(static) if (a.count > kParallelGrain)
  for (int64_t b = 0; b < kReductionBlocks; ++b) {
    const int64_t end = (b + 1) * a.count / kReductionBlocks;
    for (int64_t i0 = b * a.count / kReductionBlocks; i0 < end; i0 += kPart) {
      const int64_t part_end = min_of(i0 + kPart, end);
      A sum = 0;
      for (int64_t i = i0; i < part_end; ++i) {
        const A d = wide(left[i]) - wide(right[i]);
        sum += squared ? d * d : std::abs(d);
      }
      sums[b] += sum;
    }
  }
  double total = 0;
  for (int64_t b = 0; b < kReductionBlocks; ++b) total += sums[b];
  *static_cast<A*>(a.out) = static_cast<A>(a.scale * total);
}

template <typename T, bool squared> void error_slope(const ErrorSlope& a) {
  using A = Acc<T>;
  const T *left = static_cast<const T*>(a.a), *right = static_cast<const T*>(a.b);
  T *da = static_cast<T*>(a.da), *db = static_cast<T*>(a.db);
  const A scale = static_cast<A>(a.scale * (squared ? 2 : 1) * *static_cast<const A*>(a.dout));
#pragma omp parallel for schedule(static) if (a.count > kParallelGrain)
  for (int64_t i = 0; i < a.count; ++i) {
    const A d = wide(left[i]) - wide(right[i]);
    const A slope = scale * (squared ? d : A((d > 0) - (d < 0)));
    if (da) da[i] = narrow<T>(slope);
    if (db) db[i] = narrow<T>(-slope);
  }
}

}  // namespace

void run(const NearestCode& a) {
  for_type(a.dtype, [&](auto t) { nearest_code<decltype(t)>(a); });
}
void run(const NormalizeForward& a) {
  for_type(a.dtype, [&](auto t) { normalize_forward<decltype(t)>(a); });
}
void run(const NormalizeBackward& a) {
  for_type(a.dtype, [&](auto t) { normalize_backward<decltype(t)>(a); });
}
void run(const SumOfSquares& a) {
  for_type(a.dtype, [&](auto t) { sum_of_squares<decltype(t)>(a); });
}
void run(const ErrorSum& a) {
  for_type(a.dtype, [&](auto t) {
    using T = decltype(t);
    a.squared ? error_sum<T, true>(a) : error_sum<T, false>(a);
  });
}
void run(const ErrorSlope& a) {
  for_type(a.dtype, [&](auto t) {
    using T = decltype(t);
    a.squared ? error_slope<T, true>(a) : error_slope<T, false>(a);
  });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
