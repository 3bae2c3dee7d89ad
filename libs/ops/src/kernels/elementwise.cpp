// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/exponential.h"
#include "kernels/kernel_list.h"
#include "kernels/number.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> void add_bias(const AddBias& a) {
  const T* bias = static_cast<const T*>(a.bias);
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.rows; ++i) {
    T* out = static_cast<T*>(a.out) + i * a.width;
#pragma omp simd
    for (int64_t j = 0; j < a.width; ++j) out[j] = narrow<T>(wide(out[j]) + wide(bias[j]));
  }
}

template <typename T> void swiglu_forward(const SwigluForward& a) {
  using A = Acc<T>;
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* gate = static_cast<const T*>(a.gate_up) + i * 2 * a.width;
    const T* up = gate + a.width;
    T* out = static_cast<T*>(a.out) + i * a.width;
#pragma omp simd
    for (int64_t j = 0; j < a.width; ++j) {
      const A g = wide(gate[j]);
      out[j] = narrow<T>(g * sigmoid_of(g) * wide(up[j]));
    }
  }
}

template <typename T> void swiglu_backward(const SwigluBackward& a) {
  using A = Acc<T>;
#pragma omp parallel for schedule(static) if (a.rows * a.width > kParallelGrain)
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* gate = static_cast<const T*>(a.gate_up) + i * 2 * a.width;
    const T* up = gate + a.width;
    const T* dout = static_cast<const T*>(a.dout) + i * a.width;
    T* dgate = static_cast<T*>(a.dgate_up) + i * 2 * a.width;
    T* dup = dgate + a.width;
#pragma omp simd
    for (int64_t j = 0; j < a.width; ++j) {
      const A g = wide(gate[j]), d = wide(dout[j]), s = sigmoid_of(g);
      dgate[j] = narrow<T>(d * wide(up[j]) * s * (A(1) + g * (A(1) - s)));
      dup[j] = narrow<T>(d * g * s);
    }
  }
}

constexpr double kQuickGelu = 1.702;
constexpr double kTanhGelu = M_SQRT2 * M_2_SQRTPI;  // 2 √(2 / π)

/// y with (1 + tanh(√(2 / π) · (x + 0.044715 x³))) / 2 = sigmoid(y)
template <typename A> inline A tanh_argument(A x) {
  return A(kTanhGelu) * x * (A(1) + A(0.044715) * x * x);
}

template <Activation kind, typename A> inline A value(A x) {
  if constexpr (kind == Activation::kSilu) {
    return x * sigmoid_of(x);
  } else if constexpr (kind == Activation::kQuickGelu) {
    return x * sigmoid_of(A(kQuickGelu) * x);
  } else if constexpr (kind == Activation::kGelu) {
    return x * normal_of(x).cdf;
  } else {
    return x * sigmoid_of(tanh_argument(x));
  }
}

template <Activation kind, typename A> inline A slope(A x) {
  if constexpr (kind == Activation::kSilu) {
    const A s = sigmoid_of(x);
    return s * (A(1) + x * (A(1) - s));
  } else if constexpr (kind == Activation::kQuickGelu) {
    const A s = sigmoid_of(A(kQuickGelu) * x);
    return s * (A(1) + A(kQuickGelu) * x * (A(1) - s));
  } else if constexpr (kind == Activation::kGelu) {
    const Normal<A> normal = normal_of(x);
    return normal.cdf + x * normal.bell * A(M_2_SQRTPI * M_SQRT1_2 * 0.5);
  } else {
    const A s = sigmoid_of(tanh_argument(x));
    return s * (A(1) + x * (A(1) - s) * A(kTanhGelu) * (A(1) + A(3 * 0.044715) * x * x));
  }
}

template <typename T, Activation kind> void activation_forward(const ActivationForward& a) {
  const T* x = static_cast<const T*>(a.x);
  T* out = static_cast<T*>(a.out);
  for_spans(a.count, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) out[i] = narrow<T>(value<kind>(wide(x[i])));
  });
}

template <typename T, Activation kind> void activation_backward(const ActivationBackward& a) {
  const T* x = static_cast<const T*>(a.x);
  const T* dout = static_cast<const T*>(a.dout);
  T* dx = static_cast<T*>(a.dx);
  for_spans(a.count, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i)
      dx[i] = narrow<T>(wide(dout[i]) * slope<kind>(wide(x[i])));
  });
}

template <typename A> void rope_angles(const RopeAngles& a) {
  A* cos = static_cast<A*>(a.cos);
  A* sin = static_cast<A*>(a.sin);
#pragma omp parallel for schedule(static) if (a.tokens * a.freqs > kParallelGrain / 8)
  for (int64_t t = 0; t < a.tokens; ++t) {
    for (int64_t r = 0; r < a.freqs; ++r) {
      const A angle = A(a.position[a.axis[r] * a.tokens + t]) * A(a.inv_freq[r]);
      cos[t * a.freqs + r] = std::cos(angle) * A(a.scaling);
      sin[t * a.freqs + r] = std::sin(angle) * A(a.scaling);
    }
  }
}

template <typename T> void rope_rotate(const RopeRotate& a) {
  using A = Acc<T>;
  const A sign = a.inverse ? A(-1) : A(1);
#pragma omp parallel for schedule(static) if (a.tokens * a.heads * a.width > kParallelGrain)
  for (int64_t t = 0; t < a.tokens; ++t) {
    const A* cos = static_cast<const A*>(a.cos) + t * a.half;
    const A* sin = static_cast<const A*>(a.sin) + t * a.half;
    for (int64_t h = 0; h < a.heads; ++h) {
      const T* x = static_cast<const T*>(a.x) + (t * a.heads + h) * a.width;
      T* out = static_cast<T*>(a.out) + (t * a.heads + h) * a.width;
#pragma omp simd
      for (int64_t r = 0; r < a.half; ++r) {
        const A first = wide(x[r]), second = wide(x[r + a.half]), s = sign * sin[r];
        out[r] = narrow<T>(first * cos[r] - second * s);
        out[r + a.half] = narrow<T>(second * cos[r] + first * s);
      }
      for (int64_t r = 2 * a.half; r < a.width; ++r) out[r] = x[r];
    }
  }
}

template <typename Run> void for_activation(Activation kind, Run run_kind) {
  switch (kind) {
    case Activation::kSilu: return run_kind.template operator()<Activation::kSilu>();
    case Activation::kGelu: return run_kind.template operator()<Activation::kGelu>();
    case Activation::kGeluTanh: return run_kind.template operator()<Activation::kGeluTanh>();
    case Activation::kQuickGelu: return run_kind.template operator()<Activation::kQuickGelu>();
  }
}

}  // namespace

void run(const AddBias& a) {
  for_type(a.dtype, [&](auto t) { add_bias<decltype(t)>(a); });
}
void run(const SwigluForward& a) {
  for_type(a.dtype, [&](auto t) { swiglu_forward<decltype(t)>(a); });
}
void run(const SwigluBackward& a) {
  for_type(a.dtype, [&](auto t) { swiglu_backward<decltype(t)>(a); });
}
void run(const ActivationForward& a) {
  for_type(a.dtype, [&](auto t) {
    for_activation(a.kind, [&]<Activation kind>() { activation_forward<decltype(t), kind>(a); });
  });
}
void run(const ActivationBackward& a) {
  for_type(a.dtype, [&](auto t) {
    for_activation(a.kind, [&]<Activation kind>() { activation_backward<decltype(t), kind>(a); });
  });
}
void run(const RopeAngles& a) {
  for_type(a.dtype, [&](auto t) { rope_angles<Acc<decltype(t)>>(a); });
}
void run(const RopeRotate& a) {
  for_type(a.dtype, [&](auto t) { rope_rotate<decltype(t)>(a); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
