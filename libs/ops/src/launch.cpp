// SPDX-License-Identifier: Apache-2.0
#include "launch.h"

namespace veomni::ops {

kernels::DType kernel_dtype(const Tensor& x, const char* what) {
  switch (x.scalar_type()) {
    case at::kFloat: return kernels::DType::kFloat;
    case at::kDouble: return kernels::DType::kDouble;
    case at::kBFloat16: return kernels::DType::kBFloat16;
    default:
      throw_error(detail::concat(what, ": dtype ", c10::toString(x.scalar_type()),
                                 " has no kernels; use float32, float64 or bfloat16"));
  }
}

void check_same_kind(const char* op, const char* x_name, const Tensor& x, const char* name,
                     const Tensor& other) {
  VEOMNI_CHECK(x.scalar_type() == other.scalar_type() && x.device() == other.device(), op, ": ",
               x_name, " is ", c10::toString(x.scalar_type()), " on ", x.device().str(), " but ",
               name, " is ", c10::toString(other.scalar_type()), " on ", other.device().str(),
               "; they must agree");
}

Tensor as_int64(const char* op, const char* name, const Tensor& index, const Tensor& like) {
  VEOMNI_CHECK(index.defined() && index.dim() == 1, op, ": ", name, " must be one row of indices");
  VEOMNI_CHECK(index.scalar_type() == at::kLong || index.scalar_type() == at::kInt, op, ": ", name,
               " is ", c10::toString(index.scalar_type()), "; it must be int64 or int32");
  VEOMNI_CHECK(index.device() == like.device() || (like.is_meta() && index.is_cpu()), op, ": ",
               name, " is on ", index.device().str(), " but the values are on ",
               like.device().str());
  return index.detach().to(at::kLong).contiguous();
}

void check_indices(const char* op, const char* name, const Tensor& index, int64_t limit) {
  if (!index.is_cpu()) return;
  const int64_t* values = index.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < index.numel(); ++i) {
    VEOMNI_CHECK(values[i] >= 0 && values[i] < limit, op, ": ", name, "[", i, "] = ", values[i],
                 " lies outside [0, ", limit, ")");
  }
}

void check_first_order(const char* op) {
  VEOMNI_CHECK(!at::GradMode::is_enabled(), op,
               ": its gradient has no gradient; do not pass create_graph=true");
}

}  // namespace veomni::ops
