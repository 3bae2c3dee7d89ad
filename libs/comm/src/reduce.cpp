// SPDX-License-Identifier: Apache-2.0
#include "reduce.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "reduce_kernels.h"

namespace veomni {

namespace {

// A block of accumulators stays in the first-level cache while every input passes over it.
constexpr int64_t kBlock = 2048;

template <typename Acc, typename In>
void accumulate(Acc* acc, const In* in, int64_t n, ReduceOp op) {
  if (op == ReduceOp::kSum) {
    for (int64_t i = 0; i < n; ++i) acc[i] += static_cast<Acc>(in[i]);
  } else {
    // A NaN on either side stays: a rank's NaN must not be hidden by the others.
    for (int64_t i = 0; i < n; ++i) {
      const Acc value = static_cast<Acc>(in[i]);
      acc[i] = (value > acc[i] || value != value) ? value : acc[i];
    }
  }
}

template <typename Acc, typename In, typename Out>
void reduce_typed(Out* out, const std::vector<const void*>& ins, int64_t numel, ReduceOp op) {
  Acc acc[kBlock];
  for (int64_t begin = 0; begin < numel; begin += kBlock) {
    const int64_t n = std::min(kBlock, numel - begin);
    const In* first = static_cast<const In*>(ins[0]) + begin;
    for (int64_t i = 0; i < n; ++i) acc[i] = static_cast<Acc>(first[i]);
    for (size_t r = 1; r < ins.size(); ++r)
      accumulate(acc, static_cast<const In*>(ins[r]) + begin, n, op);
    for (int64_t i = 0; i < n; ++i) out[begin + i] = static_cast<Out>(acc[i]);
  }
}

template <typename Acc, typename In>
void reduce_into(void* out, bool wide, const std::vector<const void*>& ins, int64_t numel,
                 ReduceOp op) {
  if (wide) {
    reduce_typed<Acc, In>(static_cast<Acc*>(out), ins, numel, op);
  } else {
    reduce_typed<Acc, In>(static_cast<In*>(out), ins, numel, op);
  }
}

/// Up to this many buffers are summed by the kernels: their addresses move along with a block.
constexpr size_t kMaxFast = 64;

void sum_floats(float* out, const std::vector<const void*>& ins, int64_t numel) {
  const int count = static_cast<int>(ins.size());
  std::array<const float*, kMaxFast> from;
  float acc[kBlock];
  for (int64_t begin = 0; begin < numel; begin += kBlock) {
    const int64_t n = std::min(kBlock, numel - begin);
    for (int r = 0; r < count; ++r) from[r] = static_cast<const float*>(ins[r]) + begin;
    // With more than two, `out` may be one that is still to be read.
    kernels::sum_float(count > 2 ? acc : out + begin, from.data(), count, n);
    if (count > 2) std::memcpy(out + begin, acc, static_cast<size_t>(n) * sizeof(float));
  }
}

void sum_bfloat16s(void* out, bool wide, const std::vector<const void*>& ins, int64_t numel) {
  const int count = static_cast<int>(ins.size());
  if (count == 2 && !wide) {
    return kernels::sum_two_bfloat16(static_cast<uint16_t*>(out),
                                     static_cast<const uint16_t*>(ins[0]),
                                     static_cast<const uint16_t*>(ins[1]), numel);
  }
  std::array<const uint16_t*, kMaxFast> from;
  float acc[kBlock];
  for (int64_t begin = 0; begin < numel; begin += kBlock) {
    const int64_t n = std::min(kBlock, numel - begin);
    for (int r = 0; r < count; ++r) from[r] = static_cast<const uint16_t*>(ins[r]) + begin;
    kernels::sum_bfloat16(wide ? static_cast<float*>(out) + begin : acc, from.data(), count, n);
    if (!wide) kernels::round_to_bfloat16(static_cast<uint16_t*>(out) + begin, acc, n);
  }
}

}  // namespace

bool can_reduce(torch::ScalarType in, torch::ScalarType out) {
  switch (in) {
    case torch::kDouble:
    case torch::kFloat:
    case torch::kHalf:
    case torch::kBFloat16:
    case torch::kLong:
    case torch::kInt:
    case torch::kByte: return out == in || out == accumulate_dtype(in);
    default: return false;
  }
}

void reduce_buffers(void* out, torch::ScalarType out_dtype, const std::vector<const void*>& ins,
                    torch::ScalarType in_dtype, int64_t numel, ReduceOp op) {
  const bool wide = out_dtype != in_dtype;
  if (op == ReduceOp::kSum && !ins.empty() && ins.size() <= kMaxFast) {
    if (in_dtype == torch::kFloat) return sum_floats(static_cast<float*>(out), ins, numel);
    if (in_dtype == torch::kBFloat16) return sum_bfloat16s(out, wide, ins, numel);
  }
  switch (in_dtype) {
    case torch::kDouble: return reduce_into<double, double>(out, wide, ins, numel, op);
    case torch::kFloat: return reduce_into<float, float>(out, wide, ins, numel, op);
    case torch::kHalf: return reduce_into<float, c10::Half>(out, wide, ins, numel, op);
    case torch::kBFloat16: return reduce_into<float, c10::BFloat16>(out, wide, ins, numel, op);
    case torch::kLong: return reduce_into<int64_t, int64_t>(out, wide, ins, numel, op);
    case torch::kInt: return reduce_into<int64_t, int32_t>(out, wide, ins, numel, op);
    case torch::kByte: return reduce_into<int64_t, uint8_t>(out, wide, ins, numel, op);
    default: throw_error(detail::concat("cannot reduce tensors of ", in_dtype));
  }
}

}  // namespace veomni
