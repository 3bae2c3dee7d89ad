// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/linear.h"

#include "gemm.h"

namespace veomni::ops {
namespace {

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight_input,
                        const std::optional<Tensor>& bias_input,
                        const std::optional<Tensor>& residual_input,
                        const PackedWeightPtr& packed) {
    const trace::Span span(trace::Category::kOp, "linear", "forward");
    const Tensor x = input.contiguous(), weight = weight_input.contiguous();
    const int64_t rows = leading_rows(x), features = weight.size(0);
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes.back() = features;
    Tensor y = at::empty(sizes, x.options());
    const Tensor bias = bias_input ? bias_input->contiguous() : Tensor();
    const Tensor residual =
        residual_input ? residual_input->contiguous().view({rows, features}) : Tensor();
    matmul_nt(y.view({rows, features}), x.view({rows, x.size(-1)}), weight, bias, residual, packed);
    // A frozen weight's gradient needs no x, and a leaf x's none of the weight.
    context->save_for_backward(
        {weight_input.requires_grad() ? x : Tensor(), input.requires_grad() ? weight : Tensor()});
    if (packed) context->saved_data["packed"] = c10::IValue::make_capsule(packed);
    context->saved_data["has_bias"] = bias_input.has_value();
    context->saved_data["has_residual"] = residual_input.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("linear");
    const trace::Span span(trace::Category::kOp, "linear", "backward");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], dy = grads[0].contiguous();
    const int64_t rows = leading_rows(dy), features = dy.size(-1);
    const Tensor dy_rows = dy.view({rows, features});
    Tensor dx, dweight, dbias;
    if (context->needs_input_grad(0)) {
      std::vector<int64_t> sizes = dy.sizes().vec();
      sizes.back() = weight.size(1);
      dx = at::empty(sizes, dy.options());
      matmul_nn(dx.view({rows, weight.size(1)}), dy_rows, weight, packed_of(*context));
    }
    if (context->needs_input_grad(1)) {
      dweight = at::empty({features, x.size(-1)}, acc_options(dy));
      matmul_tn(dweight, dy_rows, x.view({rows, x.size(-1)}), false);
    }
    if (context->saved_data["has_bias"].toBool() && context->needs_input_grad(2)) {
      dbias = at::empty({features}, acc_options(dy));
      Tensor workspace =
          at::empty({std::min(rows, kernels::kReductionBlocks), features}, acc_options(dy));
      launch(dy.device(), kernels::ColumnSum{kernel_dtype(dy, "linear"), rows, features, in(dy),
                                             out(dbias), out(workspace)});
    }
    // An input that is not there has no number.
    const size_t residual = context->saved_data["has_bias"].toBool() ? 3 : 2;
    const bool passes_on =
        context->saved_data["has_residual"].toBool() && context->needs_input_grad(residual);
    return {dx, dweight, dbias, passes_on ? grads[0] : Tensor(), Tensor()};
  }

 private:
  static PackedWeightPtr packed_of(const AutogradContext& context) {
    const auto found = context.saved_data.find("packed");
    if (found == context.saved_data.end()) return {};
    return c10::static_intrusive_pointer_cast<PackedWeight>(found->second.toCapsule());
  }
};

}  // namespace

Tensor linear(Tensor x, Tensor weight_ND, Tensor bias_N, Tensor residual, PackedWeightPtr packed) {
  VEOMNI_CHECK(x.dim() >= 1 && weight_ND.dim() == 2 && x.size(-1) == weight_ND.size(1),
               "linear: x ", x.sizes(), " does not fit weight [N, D] = ", weight_ND.sizes(),
               "; the last sizes must agree");
  check_same_kind("linear", "x", x, "weight", weight_ND);
  kernel_dtype(x, "linear");
  if (bias_N.defined()) {
    VEOMNI_CHECK(bias_N.dim() == 1 && bias_N.size(0) == weight_ND.size(0), "linear: bias ",
                 bias_N.sizes(), " does not fit weight [N, D] = ", weight_ND.sizes());
    check_same_kind("linear", "x", x, "bias", bias_N);
  }
  if (residual.defined()) {
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes.back() = weight_ND.size(0);
    VEOMNI_CHECK(residual.sizes() == at::IntArrayRef(sizes), "linear: residual ", residual.sizes(),
                 " does not fit the result ", sizes);
    check_same_kind("linear", "x", x, "residual", residual);
  }
  return LinearFunction::apply(x, weight_ND, optional_input(bias_N), optional_input(residual),
                               packed);
}

Tensor linear_logits(Tensor x_TD, Tensor weight_VD) { return ops::linear(x_TD, weight_VD); }

}  // namespace veomni::ops
