// SPDX-License-Identifier: Apache-2.0
/// The one switch on the device type, and what every op checks and allocates before it.
#pragma once

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "kernel_work.h"
#include "kernels/kernel_list.h"
#include "veomni/base/error.h"
#include "veomni/base/trace.h"

namespace veomni::ops {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Runs a kernel where the tensors live. meta: nothing to do, the caller has allocated.
template <typename Args> void launch(at::Device device, const Args& args) {
  trace::Span span(trace::Category::kKernel, name_of(args));
  if (span.active()) span.set_flops(flops_of(args));
  switch (device.type()) {
    case at::kCPU: return kernels::run(args);
    case at::kMeta: return;
    case at::kCUDA: return cuda::run(args);
    default: throw_error("ops run on cpu, cuda and meta, not on " + device.str());
  }
}

/// @throws Error for a dtype without kernels, naming `what`.
kernels::DType kernel_dtype(const Tensor& x, const char* what);

/// max(float32, dtype): what a dtype is computed in, and what weight gradients have.
inline at::ScalarType acc_dtype(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}
inline at::TensorOptions acc_options(const Tensor& x) {
  return x.options().dtype(acc_dtype(x.scalar_type()));
}

/// Checks that x and other agree in dtype and device, naming both.
void check_same_kind(const char* op, const char* x_name, const Tensor& x, const char* name,
                     const Tensor& other);

/// Row indices, ids and labels as int64 on their device, contiguous.
Tensor as_int64(const char* op, const char* name, const Tensor& index, const Tensor& like);

/// @throws Error naming the first index outside [0, limit) and its position. Indices on meta have
/// no values.
void check_indices(const char* op, const char* name, const Tensor& index, int64_t limit);

/// Backward passes are kernels, not recorded operations: a gradient of a gradient would silently be
/// wrong.
void check_first_order(const char* op);

/// Product of all sizes but the last.
inline int64_t leading_rows(const Tensor& x) {
  int64_t rows = 1;
  for (int64_t d = 0; d + 1 < x.dim(); ++d) rows *= x.size(d);
  return rows;
}

/// An undefined tensor as an argument of Function::apply, which takes no undefined ones.
inline std::optional<Tensor> optional_input(const Tensor& x) {
  return x.defined() ? std::optional(x) : std::nullopt;
}

/// Pointers for kernel arguments; null for undefined tensors and on meta.
inline const void* in(const Tensor& x) { return x.defined() ? x.const_data_ptr() : nullptr; }
inline void* out(const Tensor& x) { return x.defined() ? x.mutable_data_ptr() : nullptr; }

}  // namespace veomni::ops
