// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/grouped_linear.h"

#include "gemm.h"

namespace veomni::ops {
namespace {

struct GroupedLinearFunction : torch::autograd::Function<GroupedLinearFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x_input, const Tensor& weight_input,
                        const Tensor& offsets) {
    const trace::Span span(trace::Category::kOp, "grouped_linear", "forward");
    const Tensor x = x_input.contiguous(), weight = weight_input.contiguous();
    Tensor y = at::empty({x.size(0), weight.size(1)}, x.options());
    grouped_matmul_nt(y, x, weight, offsets);
    // A frozen weight's gradient needs no x, and a leaf x's none of the weight.
    context->save_for_backward({weight_input.requires_grad() ? x : Tensor(),
                                x_input.requires_grad() ? weight : Tensor(), offsets});
    context->saved_data["weight_sizes"] = weight.sizes().vec();
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("grouped_linear");
    const trace::Span span(trace::Category::kOp, "grouped_linear", "backward");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &offsets = saved[2];
    const Tensor dy = grads[0].contiguous();
    const auto weight_sizes = context->saved_data["weight_sizes"].toIntVector();
    Tensor dx, dweight;
    if (context->needs_input_grad(0)) {
      dx = at::empty({dy.size(0), weight_sizes[2]}, dy.options());
      grouped_matmul_nn(dx, dy, weight, offsets);
    }
    if (context->needs_input_grad(1)) {
      dweight = at::empty(weight_sizes, acc_options(dy));
      grouped_matmul_tn(dweight, dy, x, offsets);
    }
    return {dx, dweight, Tensor()};
  }
};

/// The offsets as int64.
Tensor checked_offsets(const Tensor& offsets, int64_t groups, int64_t rows) {
  constexpr const char* kOp = "grouped_linear";
  VEOMNI_CHECK(offsets.defined() && offsets.dim() == 1 && offsets.numel() == groups + 1, kOp,
               ": offsets ", offsets.defined() ? offsets.sizes() : at::IntArrayRef(),
               " do not fit weight with ", groups, " groups; they must be [E + 1] = [", groups + 1,
               "]");
  VEOMNI_CHECK(offsets.scalar_type() == at::kLong || offsets.scalar_type() == at::kInt, kOp,
               ": offsets are ", c10::toString(offsets.scalar_type()),
               "; they must be int64 or int32");
  VEOMNI_CHECK(offsets.is_cpu(), kOp, ": offsets are on ", offsets.device().str(),
               "; they must be on the cpu, whatever the device of x");
  const Tensor wide = offsets.detach().to(at::kLong).contiguous();
  const int64_t* values = wide.const_data_ptr<int64_t>();
  VEOMNI_CHECK(values[0] == 0 && values[groups] == rows, kOp, ": offsets run from ", values[0],
               " to ", values[groups], "; they must run from 0 to the ", rows, " rows of x");
  for (int64_t e = 0; e < groups; ++e) {
    VEOMNI_CHECK(values[e] <= values[e + 1], kOp, ": offsets[", e + 1, "] = ", values[e + 1],
                 " is below the one before, ", values[e]);
  }
  return wide;
}

}  // namespace

Tensor grouped_linear(Tensor x_TD, Tensor weight_END, Tensor offsets) {
  VEOMNI_CHECK(x_TD.dim() == 2 && weight_END.dim() == 3 && weight_END.size(0) > 0 &&
                   x_TD.size(1) == weight_END.size(2),
               "grouped_linear: x [T, D] = ", x_TD.sizes(),
               " does not fit weight [E, N, D] = ", weight_END.sizes(),
               "; the last sizes must agree, and E must be at least 1");
  check_same_kind("grouped_linear", "x", x_TD, "weight", weight_END);
  kernel_dtype(x_TD, "grouped_linear");
  return GroupedLinearFunction::apply(x_TD, weight_END,
                                      checked_offsets(offsets, weight_END.size(0), x_TD.size(0)));
}

}  // namespace veomni::ops
