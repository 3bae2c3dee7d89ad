// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/norm.h"

#include "launch.h"

namespace veomni::ops {
namespace {

void check_norm(const char* op, const Tensor& x, const Tensor& weight, const char* weight_name) {
  VEOMNI_CHECK(x.dim() >= 1 && weight.dim() == 1 && weight.size(0) == x.size(-1), op, ": ",
               weight_name, " has shape ", weight.sizes(), " but x has shape ", x.sizes(),
               "; the last sizes must agree");
  check_same_kind(op, "x", x, weight_name, weight);
}

Tensor reduction_workspace(const Tensor& x, int64_t rows, int64_t width) {
  return at::empty({std::min(rows, kernels::kReductionBlocks), width}, acc_options(x));
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight_input,
                        double eps) {
    const trace::Span span(trace::Category::kOp, "rms_norm", "forward");
    const Tensor x = input.contiguous(), weight = weight_input.contiguous();
    const int64_t rows = leading_rows(x);
    Tensor y = at::empty(x.sizes(), x.options()), rstd = at::empty({rows}, acc_options(x));
    launch(x.device(), kernels::RmsNormForward{kernel_dtype(x, "rms_norm"), rows, x.size(-1), eps,
                                               in(x), in(weight), out(y), out(rstd)});
    context->save_for_backward({x, weight, rstd});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("rms_norm");
    const trace::Span span(trace::Category::kOp, "rms_norm", "backward");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &rstd = saved[2], dy = grads[0].contiguous();
    const int64_t rows = leading_rows(x), width = x.size(-1);
    Tensor dx, dweight, workspace;
    if (context->needs_input_grad(0)) dx = at::empty(x.sizes(), x.options());
    if (context->needs_input_grad(1)) {
      dweight = at::empty(weight.sizes(), acc_options(x));
      workspace = reduction_workspace(x, rows, width);
    }
    launch(x.device(),
           kernels::RmsNormBackward{kernel_dtype(x, "rms_norm"), rows, width, in(x), in(weight),
                                    in(rstd), in(dy), out(dx), out(dweight), out(workspace)});
    return {dx, dweight, Tensor()};
  }
};

struct LayerNormFunction : torch::autograd::Function<LayerNormFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight_input,
                        const Tensor& bias_input, double eps) {
    const trace::Span span(trace::Category::kOp, "layer_norm", "forward");
    const Tensor x = input.contiguous(), weight = weight_input.contiguous(),
                 bias = bias_input.contiguous();
    const int64_t rows = leading_rows(x);
    Tensor y = at::empty(x.sizes(), x.options());
    Tensor mean = at::empty({rows}, acc_options(x)), rstd = at::empty({rows}, acc_options(x));
    launch(x.device(),
           kernels::LayerNormForward{kernel_dtype(x, "layer_norm"), rows, x.size(-1), eps, in(x),
                                     in(weight), in(bias), out(y), out(mean), out(rstd)});
    context->save_for_backward({x, weight, mean, rstd});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("layer_norm");
    const trace::Span span(trace::Category::kOp, "layer_norm", "backward");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], dy = grads[0].contiguous();
    const int64_t rows = leading_rows(x), width = x.size(-1);
    Tensor dx, dweight, dbias, workspace;
    if (context->needs_input_grad(0)) dx = at::empty(x.sizes(), x.options());
    if (context->needs_input_grad(1)) dweight = at::empty(weight.sizes(), acc_options(x));
    if (context->needs_input_grad(2)) dbias = at::empty(weight.sizes(), acc_options(x));
    if (dweight.defined() || dbias.defined()) workspace = reduction_workspace(x, rows, 2 * width);
    launch(x.device(),
           kernels::LayerNormBackward{kernel_dtype(x, "layer_norm"), rows, width, in(x), in(weight),
                                      in(saved[2]), in(saved[3]), in(dy), out(dx), out(dweight),
                                      out(dbias), out(workspace)});
    return {dx, dweight, dbias, Tensor()};
  }
};

Tensor centered(const Tensor& input) {
  const Tensor x = input.contiguous();
  Tensor y = at::empty(x.sizes(), x.options());
  launch(x.device(), kernels::CenterRows{kernel_dtype(x, "center_rows"), x.size(0), x.size(1),
                                         x.size(2), in(x), out(y)});
  return y;
}

struct CenterRowsFunction : torch::autograd::Function<CenterRowsFunction> {
  static Tensor forward(AutogradContext*, const Tensor& x) {
    const trace::Span span(trace::Category::kOp, "center_rows", "forward");
    return centered(x);
  }

  static variable_list backward(AutogradContext*, variable_list grads) {
    check_first_order("center_rows");
    const trace::Span span(trace::Category::kOp, "center_rows", "backward");
    return {centered(grads[0])};
  }
};

}  // namespace

Tensor rms_norm(Tensor x, Tensor weight_D, double eps) {
  check_norm("rms_norm", x, weight_D, "weight");
  return RmsNormFunction::apply(x, weight_D, eps);
}

Tensor layer_norm(Tensor x, Tensor weight_D, Tensor bias_D, double eps) {
  check_norm("layer_norm", x, weight_D, "weight");
  check_norm("layer_norm", x, bias_D, "bias");
  return LayerNormFunction::apply(x, weight_D, bias_D, eps);
}

Tensor center_rows(Tensor x_NTC) {
  VEOMNI_CHECK(x_NTC.dim() == 3, "center_rows: x must be [N, T, C], not ", x_NTC.sizes());
  return CenterRowsFunction::apply(x_NTC);
}

}  // namespace veomni::ops
