// SPDX-License-Identifier: Apache-2.0
// What stands between the projection to q, k and v and attention, in one pass over memory. A row of qkv is a token; its heads
// are those of q, k and v in turn.
#include <cmath>
#include <cstring>

#include "kernels/kernel_list.h"
#include "kernels/lanes.h"
#include "kernels/reduction.h"

namespace veomni::ops::kernels::VEOMNI_LEVEL {
namespace {

template <typename T> inline void copy(const T* from, int64_t count, T* to) {
  std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
}

template <typename T> inline void zero(T* out, int64_t count) {
  std::memset(out, 0, static_cast<size_t>(count) * sizeof(T));
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

template <typename T> inline Acc<T> reciprocal_rms(const T* x, int64_t width, Acc<T> eps) {
  using A = Acc<T>;
  LaneSum<A> squares;
  for_lanes<A>(0, width, [&](auto lanes, int64_t j) {
    const auto value = lanes.get(x + j);
    squares.add(value * value);
  });
  return A(1) / std::sqrt(squares.total() / A(width) + eps);
}

/// One head, normed by rstd and weight (null: not) and turned.
template <bool norm, typename T>
inline void forward_head(const T* x, int64_t width, int64_t half, const T* weight, Acc<T> rstd,
                         Angles<Acc<T>> angles, T* out) {
  using A = Acc<T>;
  // Rounded wherever rms_norm and rope, called in turn, would round.
  const auto value = [=](auto lanes, int64_t j) {
    const auto raw = lanes.get(x + j);
    if constexpr (!norm) return raw;
    const auto normed = lanes.template round<T>(raw * rstd);
    return lanes.template round<T>(lanes.get(weight + j) * normed);
  };
  for_lanes<A>(0, half, [=](auto lanes, int64_t r) {
    const auto first = value(lanes, r), second = value(lanes, r + half);
    const auto cos = lanes.get(angles.cos + r), sin = lanes.get(angles.sin + r);
    lanes.put(out + r, first * cos - second * sin);
    lanes.put(out + r + half, second * cos + first * sin);
  });
  for_lanes<A>(2 * half, width,
               [=](auto lanes, int64_t j) { lanes.put(out + j, value(lanes, j)); });
}

/// `heads` heads of q or k of one token.
template <typename T>
void forward_heads(const QkNormRopeForward& a, int64_t token, int64_t heads, const T* x,
                   const T* weight, T* out, Acc<T>* rstd) {
  const int64_t width = a.shape.width, half = a.shape.half;
  const Angles<Acc<T>> angles(a, token);
  if (!weight) {
    for (int64_t h = 0; h < heads; ++h)
      forward_head<false, T>(x + h * width, width, half, nullptr, 1, angles, out + h * width);
    return;
  }
  // The roots of all heads first: each waits for its sum, and nothing here waits for it.
  const Acc<T> eps = static_cast<Acc<T>>(a.eps);
  for (int64_t h = 0; h < heads; ++h) rstd[h] = reciprocal_rms(x + h * width, width, eps);
  for (int64_t h = 0; h < heads; ++h)
    forward_head<true>(x + h * width, width, half, weight, rstd[h], angles, out + h * width);
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

/// Calls take(lanes, j, gradient) for every dimension j of a head, the gradient as it was before it was turned.
template <typename T, typename Take>
inline void turned_back(const T* dout, int64_t width, int64_t half, Angles<Acc<T>> angles,
                        const Take& take) {
  for_lanes<Acc<T>>(0, half, [&](auto lanes, int64_t r) {
    const auto cos = lanes.get(angles.cos + r), sin = lanes.get(angles.sin + r);
    const auto first = lanes.get(dout + r), second = lanes.get(dout + r + half);
    take(lanes, r, first * cos + second * sin);
    take(lanes, r + half, second * cos - first * sin);
  });
  for_lanes<Acc<T>>(2 * half, width,
                    [&](auto lanes, int64_t j) { take(lanes, j, lanes.get(dout + j)); });
}

template <typename T>
inline void backward_head(const T* dout, int64_t width, int64_t half, Angles<Acc<T>> angles,
                          T* dx) {
  turned_back(dout, width, half, angles,
              [=](auto lanes, int64_t j, auto gradient) { lanes.put(dx + j, gradient); });
}

/// What a block of tokens adds up, and room for one head.
template <typename A> struct NormSums { A *dweight, *scratch; };

/// The same behind a norm. dx may be null.
template <typename T>
inline void backward_normed_head(const T* dout, int64_t width, int64_t half, Angles<Acc<T>> angles,
                                 const T* x, const T* weight, Acc<T> rstd, T* dx,
                                 NormSums<Acc<T>> sums) {
  using A = Acc<T>;
  LaneSum<A> dot;
  turned_back(dout, width, half, angles,
              [&dot, x, weight, rstd, sums](auto lanes, int64_t j, auto gradient) {
                const auto value = lanes.get(x + j), weighted = gradient * lanes.get(weight + j);
                lanes.put(sums.dweight + j, lanes.get(sums.dweight + j) +
                                                gradient * lanes.template round<T>(value * rstd));
                lanes.put(sums.scratch + j, weighted);
                dot.add(weighted * value);
              });
  if (!dx) return;
  const A correction = dot.total() * rstd * rstd * rstd / A(width);
  for_lanes<A>(0, width, [=](auto lanes, int64_t j) {
    lanes.put(dx + j, lanes.get(sums.scratch + j) * rstd - lanes.get(x + j) * correction);
  });
}

/// `heads` heads of q or k of one token.
template <typename T>
void backward_heads(const QkNormRopeBackward& a, int64_t token, int64_t heads, const T* x,
                    const T* weight, const Acc<T>* rstd, const T* dout, T* dx,
                    NormSums<Acc<T>> sums) {
  const int64_t width = a.shape.width, half = a.shape.half;
  if (!dout) {
    if (dx) zero(dx, heads * width);
    return;
  }
  const Angles<Acc<T>> angles(a, token);
  for (int64_t h = 0; h < heads; ++h, dout += width) {
    T* dx_head = part(dx, h * width);
    if (weight) {
      backward_normed_head(dout, width, half, angles, x + h * width, weight, rstd[h], dx_head,
                           sums);
    } else if (dx) {
      backward_head(dout, width, half, angles, dx_head);
    }
  }
}

template <typename T>
void backward_token(const QkNormRopeBackward& a, int64_t t, Acc<T>* workspace) {
  const QkvShape& s = a.shape;
  const int64_t q_width = s.heads * s.width, kv_width = s.kv_heads * s.width;
  const int64_t row = q_width + 2 * kv_width;
  const T* x = part(static_cast<const T*>(a.qkv), t * row);
  const Acc<T>* rstd = part(static_cast<const Acc<T>*>(a.rstd), t * (s.heads + s.kv_heads));
  T* dx = part(static_cast<T*>(a.dqkv), t * row);
  const T* dq = part(static_cast<const T*>(a.dq), t * q_width);
  const T* dk = part(static_cast<const T*>(a.dk), t * kv_width);
  const T* dv = part(static_cast<const T*>(a.dv), t * kv_width);
  Acc<T>* scratch = part(workspace, 2 * s.width);
  backward_heads<T>(a, t, s.heads, x, static_cast<const T*>(a.q_weight), rstd, dq, dx,
                    {workspace, scratch});
  backward_heads<T>(a, t, s.kv_heads, part(x, q_width), static_cast<const T*>(a.k_weight),
                    part(rstd, s.heads), dk, part(dx, q_width),
                    {part(workspace, s.width), scratch});
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
  const int64_t blocks = min_of(kReductionBlocks, s.tokens), stride = 3 * s.width;
  const int64_t elements = s.tokens * (s.heads + 2 * s.kv_heads) * s.width;
  A* workspace = static_cast<A*>(a.workspace);
#pragma omp parallel for schedule(static) if (elements > kParallelGrain)
  for (int64_t b = 0; b < blocks; ++b) {
    A* mine = part(workspace, b * stride);
    if (mine) zero(mine, 2 * s.width);
    const int64_t end = block_begin(b + 1, blocks, s.tokens);
    for (int64_t t = block_begin(b, blocks, s.tokens); t < end; ++t) backward_token<T>(a, t, mine);
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
