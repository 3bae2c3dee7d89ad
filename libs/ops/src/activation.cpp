// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/activation.h"

#include "launch.h"

namespace veomni::ops {
namespace {

struct SwigluFunction : torch::autograd::Function<SwigluFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input) {
    const trace::Span span(trace::Category::kOp, "swiglu", "forward");
    const Tensor gate_up = input.contiguous();
    std::vector<int64_t> sizes = gate_up.sizes().vec();
    sizes.back() /= 2;
    Tensor y = at::empty(sizes, gate_up.options());
    launch(gate_up.device(),
           kernels::SwigluForward{kernel_dtype(gate_up, "swiglu"), leading_rows(gate_up),
                                  sizes.back(), in(gate_up), out(y)});
    context->save_for_backward({gate_up});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("swiglu");
    const trace::Span span(trace::Category::kOp, "swiglu", "backward");
    const Tensor gate_up = context->get_saved_variables()[0], dy = grads[0].contiguous();
    Tensor dgate_up = at::empty(gate_up.sizes(), gate_up.options());
    launch(gate_up.device(),
           kernels::SwigluBackward{kernel_dtype(gate_up, "swiglu"), leading_rows(gate_up),
                                   gate_up.size(-1) / 2, in(gate_up), in(dy), out(dgate_up)});
    return {dgate_up};
  }
};

struct ActivationFunction : torch::autograd::Function<ActivationFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input, int64_t kind) {
    const trace::Span span(trace::Category::kOp, "activation", "forward");
    const Tensor x = input.contiguous();
    Tensor y = at::empty(x.sizes(), x.options());
    launch(x.device(), kernels::ActivationForward{kernel_dtype(x, "activation"),
                                                  static_cast<kernels::Activation>(kind), x.numel(),
                                                  in(x), out(y)});
    context->save_for_backward({x});
    context->saved_data["kind"] = kind;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("activation");
    const trace::Span span(trace::Category::kOp, "activation", "backward");
    const Tensor x = context->get_saved_variables()[0], dy = grads[0].contiguous();
    const auto kind = static_cast<kernels::Activation>(context->saved_data["kind"].toInt());
    Tensor dx = at::empty(x.sizes(), x.options());
    launch(x.device(), kernels::ActivationBackward{kernel_dtype(x, "activation"), kind, x.numel(),
                                                   in(x), in(dy), out(dx)});
    return {dx, Tensor()};
  }
};

Tensor activate(const Tensor& x, kernels::Activation kind) {
  return ActivationFunction::apply(x, static_cast<int64_t>(kind));
}

}  // namespace

Tensor swiglu(Tensor gate_up_T2I) {
  VEOMNI_CHECK(gate_up_T2I.dim() >= 1 && gate_up_T2I.size(-1) % 2 == 0, "swiglu: the last size of ",
               gate_up_T2I.sizes(), " must be even: gate and up side by side");
  return SwigluFunction::apply(gate_up_T2I);
}

Tensor gelu(Tensor x, bool tanh_approximation) {
  return activate(x,
                  tanh_approximation ? kernels::Activation::kGeluTanh : kernels::Activation::kGelu);
}

Tensor quick_gelu(Tensor x) { return activate(x, kernels::Activation::kQuickGelu); }

Tensor silu(Tensor x) { return activate(x, kernels::Activation::kSilu); }

}  // namespace veomni::ops
