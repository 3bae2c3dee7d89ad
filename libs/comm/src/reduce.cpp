// SPDX-License-Identifier: Apache-2.0
#include "reduce.h"

#include <algorithm>

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
