// SPDX-License-Identifier: Apache-2.0
// What stands between the projection to q, k and v and attention, in one pass over memory. A row of qkv is a token; its heads
// are those of q, k and v in turn.
#include <cmath>

#include "kernels/kernel_list.h"
#include "kernels/number.h"
#include "kernels/reduction.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> inline void copy(const T* from, int64_t count, T* to) {
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) to[j] = from[j];
}

template <typename T> inline void zero(T* out, int64_t count) {
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) out[j] = T{};
}

/// A row of what may be missing.
template <typename T> inline T* part(T* pointer, int64_t offset) {
  return pointer ? pointer + offset : nullptr;
}

/// A token's angles.
template <typename A> struct Angles {
  const A *cos, *sin;
  template <typename Args>
  Angles(const Args& a, int64_t token)
      : cos(static_cast<const A*>(a.cos) + token * a.shape.half),
        sin(static_cast<const A*>(a.sin) + token * a.shape.half) {}
};

template <typename T, bool norm>
inline void forward_head(const QkvShape& s, const T* x, const T* weight,
                         const Angles<Acc<T>>& angles, double eps, T* out, Acc<T>* rstd) {
  using A = Acc<T>;
  A scale = 1;
  if constexpr (norm) {
    A sum = 0;
    for (int64_t j = 0; j < s.width; ++j) sum += wide(x[j]) * wide(x[j]);
    *rstd = scale = A(1) / std::sqrt(sum / A(s.width) + A(eps));
  }
  // Rounded wherever rms_norm and rope, called in turn, would round.
  const auto value = [=](int64_t j) {
    if constexpr (norm) return rounded<T>(wide(weight[j]) * rounded<T>(wide(x[j]) * scale));
    return wide(x[j]);
  };
#pragma omp simd
  for (int64_t r = 0; r < s.half; ++r) {
    const A first = value(r), second = value(r + s.half);
    out[r] = narrow<T>(first * angles.cos[r] - second * angles.sin[r]);
    out[r + s.half] = narrow<T>(second * angles.cos[r] + first * angles.sin[r]);
  }
#pragma omp simd
  for (int64_t j = 2 * s.half; j < s.width; ++j) out[j] = narrow<T>(value(j));
}

/// `heads` heads of q or k of one token.
template <typename T>
void forward_heads(const QkNormRopeForward& a, int64_t token, int64_t heads, const T* x,
                   const T* weight, T* out, Acc<T>* rstd) {
  const QkvShape& s = a.shape;
  const Angles<Acc<T>> angles(a, token);
  for (int64_t h = 0; h < heads; ++h, x += s.width, out += s.width) {
    if (weight) {
      forward_head<T, true>(s, x, weight, angles, a.eps, out, rstd + h);
    } else {
      forward_head<T, false>(s, x, weight, angles, a.eps, out, nullptr);
    }
  }
}

template <typename T> void forward(const QkNormRopeForward& a) {
  const QkvShape& s = a.shape;
  const int64_t q_width = s.heads * s.width, kv_width = s.kv_heads * s.width;
  const int64_t row = q_width + 2 * kv_width;
#pragma omp parallel for schedule(static) if (s.tokens * row > kParallelGrain)
  for (int64_t t = 0; t < s.tokens; ++t) {
    const T* x = static_cast<const T*>(a.qkv) + t * row;
    Acc<T>* rstd = part(static_cast<Acc<T>*>(a.rstd), t * (s.heads + s.kv_heads));
    forward_heads<T>(a, t, s.heads, x, static_cast<const T*>(a.q_weight),
                     static_cast<T*>(a.q) + t * q_width, rstd);
    forward_heads<T>(a, t, s.kv_heads, x + q_width, static_cast<const T*>(a.k_weight),
                     static_cast<T*>(a.k) + t * kv_width, part(rstd, s.heads));
    copy(x + q_width + kv_width, kv_width, static_cast<T*>(a.v) + t * kv_width);
  }
}

/// The gradient of a head before it was turned, at r and at r + half.
template <typename T> struct TurnedBack {
  const T* dout;
  Angles<Acc<T>> angles;
  int64_t half;
  Acc<T> first(int64_t r) const {
    return wide(dout[r]) * angles.cos[r] + wide(dout[r + half]) * angles.sin[r];
  }
  Acc<T> second(int64_t r) const {
    return wide(dout[r + half]) * angles.cos[r] - wide(dout[r]) * angles.sin[r];
  }
};

template <typename T> inline void backward_head(const QkvShape& s, const TurnedBack<T>& g, T* dx) {
#pragma omp simd
  for (int64_t r = 0; r < s.half; ++r) {
    dx[r] = narrow<T>(g.first(r));
    dx[r + s.half] = narrow<T>(g.second(r));
  }
  copy(g.dout + 2 * s.half, s.width - 2 * s.half, dx + 2 * s.half);
}

/// The same behind a norm; adds to dweight. dx may be null.
template <typename T>
inline void backward_normed_head(const QkvShape& s, const TurnedBack<T>& g, const T* x,
                                 const T* weight, Acc<T> rstd, T* dx, Acc<T>* dweight) {
  using A = Acc<T>;
  A dot = 0;
  const auto take = [=](int64_t j, A gradient) {
    dweight[j] += gradient * rounded<T>(wide(x[j]) * rstd);
    return gradient * wide(weight[j]) * wide(x[j]);
  };
#pragma omp simd reduction(+ : dot)
  for (int64_t r = 0; r < s.half; ++r) dot += take(r, g.first(r)) + take(r + s.half, g.second(r));
#pragma omp simd reduction(+ : dot)
  for (int64_t j = 2 * s.half; j < s.width; ++j) dot += take(j, wide(g.dout[j]));
  if (!dx) return;
  const A correction = dot * rstd * rstd * rstd / A(s.width);
  const auto slope = [=](int64_t j, A gradient) {
    return narrow<T>(gradient * wide(weight[j]) * rstd - wide(x[j]) * correction);
  };
#pragma omp simd
  for (int64_t r = 0; r < s.half; ++r) {
    dx[r] = slope(r, g.first(r));
    dx[r + s.half] = slope(r + s.half, g.second(r));
  }
#pragma omp simd
  for (int64_t j = 2 * s.half; j < s.width; ++j) dx[j] = slope(j, wide(g.dout[j]));
}

/// `heads` heads of q or k of one token.
template <typename T>
void backward_heads(const QkNormRopeBackward& a, int64_t token, int64_t heads, const T* x,
                    const T* weight, const Acc<T>* rstd, const T* dout, T* dx, Acc<T>* dweight) {
  const QkvShape& s = a.shape;
  if (!dout) {
    if (dx) zero(dx, heads * s.width);
    return;
  }
  TurnedBack<T> g{dout, Angles<Acc<T>>(a, token), s.half};
  for (int64_t h = 0; h < heads; ++h, g.dout += s.width) {
    T* dx_head = dx ? dx + h * s.width : nullptr;
    if (weight) {
      backward_normed_head<T>(s, g, x + h * s.width, weight, rstd[h], dx_head, dweight);
    } else if (dx) {
      backward_head<T>(s, g, dx_head);
    }
  }
}

template <typename T>
void backward_token(const QkNormRopeBackward& a, int64_t t, Acc<T>* dq_weight, Acc<T>* dk_weight) {
  const QkvShape& s = a.shape;
  const int64_t q_width = s.heads * s.width, kv_width = s.kv_heads * s.width;
  const int64_t row = q_width + 2 * kv_width;
  const T* x = part(static_cast<const T*>(a.qkv), t * row);
  const Acc<T>* rstd = part(static_cast<const Acc<T>*>(a.rstd), t * (s.heads + s.kv_heads));
  T* dx = part(static_cast<T*>(a.dqkv), t * row);
  const T* dq = part(static_cast<const T*>(a.dq), t * q_width);
  const T* dk = part(static_cast<const T*>(a.dk), t * kv_width);
  const T* dv = part(static_cast<const T*>(a.dv), t * kv_width);
  backward_heads<T>(a, t, s.heads, x, static_cast<const T*>(a.q_weight), rstd, dq, dx, dq_weight);
  backward_heads<T>(a, t, s.kv_heads, part(x, q_width), static_cast<const T*>(a.k_weight),
                    part(rstd, s.heads), dk, part(dx, q_width), dk_weight);
  if (!dx) return;
  T* dx_v = dx + q_width + kv_width;
  if (dv) {
    copy(dv, kv_width, dx_v);
  } else {
    zero(dx_v, kv_width);
  }
}

template <typename T> void backward(const QkNormRopeBackward& a) {
  using A = Acc<T>;
  const QkvShape& s = a.shape;
  const int64_t blocks = min_of(kReductionBlocks, s.tokens), stride = 2 * s.width;
  const int64_t elements = s.tokens * (s.heads + 2 * s.kv_heads) * s.width;
  A* workspace = static_cast<A*>(a.workspace);
#pragma omp parallel for schedule(static) if (elements > kParallelGrain)
  for (int64_t b = 0; b < blocks; ++b) {
    A* dweight = part(workspace, b * stride);
    if (dweight) zero(dweight, stride);
    const int64_t end = block_begin(b + 1, blocks, s.tokens);
    for (int64_t t = block_begin(b, blocks, s.tokens); t < end; ++t)
      backward_token<T>(a, t, dweight, part(dweight, s.width));
  }
  if (a.dq_weight) sum_blocks(workspace, blocks, stride, s.width, static_cast<A*>(a.dq_weight));
  if (a.dk_weight)
    sum_blocks(workspace + s.width, blocks, stride, s.width, static_cast<A*>(a.dk_weight));
}

}  // namespace

void run(const QkNormRopeForward& a) {
  for_type(a.dtype, [&](auto t) { forward<decltype(t)>(a); });
}
void run(const QkNormRopeBackward& a) {
  for_type(a.dtype, [&](auto t) { backward<decltype(t)>(a); });
}

}  // namespace veomni::ops::kernels::VEOMNI_LEVEL
