// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernels/kernel_list.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

/// The position that `tap` of `window` reads, or -1.
inline int64_t position(const WindowAxis& axis, int64_t window, int64_t tap) {
  const int64_t scaled = window * axis.stride + tap * axis.step + axis.offset;
  if (scaled < 0 || (axis.divisor > 1 && scaled % axis.divisor != 0)) return -1;
  const int64_t at = axis.divisor > 1 ? scaled / axis.divisor : scaled;
  return at < axis.size ? at : -1;
}

/// All horizontal taps of one window in a line of x, or zeros where there is no line.
template <typename T>
void gather_line(const GatherWindows& a, const T* line, int64_t window, T* out) {
  const WindowAxis& axis = a.horizontal;
  const int64_t first = window * axis.stride + axis.offset;
  // Windows inside the picture are one run of x.
  if (line && axis.step == 1 && axis.divisor == 1 && first >= 0 && first + axis.taps <= axis.size) {
    std::memcpy(out, line + first * a.channels, axis.taps * a.channels * sizeof(T));
    return;
  }
  for (int64_t j = 0; j < axis.taps; ++j) {
    const int64_t at = line ? position(axis, window, j) : -1;
    if (at >= 0) {
      std::memcpy(out + j * a.channels, line + at * a.channels, a.channels * sizeof(T));
    } else {
      // All-zero bits are 0 in every dtype here.
      std::memset(out + j * a.channels, 0, a.channels * sizeof(T));
    }
  }
}

template <typename T> void gather_windows(const GatherWindows& a) {
  const WindowAxis &vertical = a.vertical, &horizontal = a.horizontal;
  const int64_t line_elements = horizontal.size * a.channels;
  const int64_t tap_elements = horizontal.taps * a.channels;
  const int64_t width = vertical.taps * tap_elements;
#pragma omp parallel for schedule(static) if (a.rows * width > kParallelGrain)
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t window = a.first + r, lines = window / horizontal.windows;
    const T* picture =
        static_cast<const T*>(a.x) + lines / vertical.windows * vertical.size * line_elements;
    T* out = static_cast<T*>(a.out) + r * width;
    for (int64_t i = 0; i < vertical.taps; ++i) {
      const int64_t y = position(vertical, lines % vertical.windows, i);
      gather_line<T>(a, y < 0 ? nullptr : picture + y * line_elements, window % horizontal.windows,
                     out + i * tap_elements);
    }
  }
}

}  // namespace

void run(const GatherWindows& a) {
  for_type(a.dtype, [&](auto t) { gather_windows<decltype(t)>(a); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
