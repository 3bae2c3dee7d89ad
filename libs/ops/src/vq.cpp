// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/vq.h"

#include "launch.h"

namespace veomni::ops {
namespace {

struct L2NormalizeFunction : torch::autograd::Function<L2NormalizeFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input, double eps) {
    const trace::Span span(trace::Category::kOp, "l2_normalize", "forward");
    const Tensor x = input.contiguous();
    const int64_t rows = leading_rows(x);
    Tensor y = at::empty(x.sizes(), x.options()), norm = at::empty({rows}, acc_options(x));
    launch(x.device(), kernels::NormalizeForward{kernel_dtype(x, "l2_normalize"), rows, x.size(-1),
                                                 eps, in(x), out(y), out(norm)});
    context->save_for_backward({x, norm});
    context->saved_data["eps"] = eps;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("l2_normalize");
    const trace::Span span(trace::Category::kOp, "l2_normalize", "backward");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], dy = grads[0].contiguous();
    Tensor dx = at::empty(x.sizes(), x.options());
    launch(x.device(), kernels::NormalizeBackward{kernel_dtype(x, "l2_normalize"), leading_rows(x),
                                                  x.size(-1), context->saved_data["eps"].toDouble(),
                                                  in(x), in(saved[1]), in(dy), out(dx)});
    return {dx, Tensor()};
  }
};

struct ErrorSumFunction : torch::autograd::Function<ErrorSumFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& a_input, const Tensor& b_input,
                        double scale, bool squared) {
    const trace::Span span(trace::Category::kOp, "error", "forward");
    const Tensor a = a_input.contiguous(), b = b_input.contiguous();
    Tensor sum = at::empty({}, acc_options(a));
    launch(a.device(), kernels::ErrorSum{kernel_dtype(a, "error"), squared, a.numel(), scale, in(a),
                                         in(b), out(sum)});
    context->save_for_backward({a, b});
    context->saved_data["scale"] = scale;
    context->saved_data["squared"] = squared;
    return sum;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("error");
    const trace::Span span(trace::Category::kOp, "error", "backward");
    const auto saved = context->get_saved_variables();
    const Tensor &a = saved[0], &b = saved[1], dy = grads[0].contiguous();
    Tensor da, db;
    if (context->needs_input_grad(0)) da = at::empty(a.sizes(), a.options());
    if (context->needs_input_grad(1)) db = at::empty(b.sizes(), b.options());
    launch(a.device(),
           kernels::ErrorSlope{kernel_dtype(a, "error"), context->saved_data["squared"].toBool(),
                               a.numel(), context->saved_data["scale"].toDouble(), in(a), in(b),
                               in(dy), out(da), out(db)});
    return {da, db, Tensor(), Tensor()};
  }
};

Tensor error_sum(const char* op, const Tensor& a, const Tensor& b, double scale, bool squared) {
  VEOMNI_CHECK(a.sizes() == b.sizes(), op, ": a ", a.sizes(), " and b ", b.sizes(),
               " must have one shape");
  check_same_kind(op, "a", a, "b", b);
  kernel_dtype(a, op);
  return ErrorSumFunction::apply(a, b, scale, squared);
}

}  // namespace

Tensor nearest_code(Tensor x_RE, Tensor codebook_CE) {
  VEOMNI_CHECK(x_RE.dim() == 2 && codebook_CE.dim() == 2 && x_RE.size(1) == codebook_CE.size(1),
               "nearest_code: x [R, E] = ", x_RE.sizes(),
               " does not fit codebook [C, E] = ", codebook_CE.sizes());
  check_same_kind("nearest_code", "x", x_RE, "codebook", codebook_CE);
  VEOMNI_CHECK(codebook_CE.size(0) > 0, "nearest_code: the codebook is empty");
  const at::NoGradGuard no_grad;
  const Tensor x = x_RE.contiguous(), codebook = codebook_CE.contiguous();
  const int64_t codes = codebook.size(0), width = codebook.size(1);
  Tensor index = at::empty({x.size(0)}, x.options().dtype(at::kLong));
  Tensor workspace = at::empty({kernels::nearest_code_workspace(codes, width)}, acc_options(x));
  launch(x.device(),
         kernels::NearestCode{kernel_dtype(x, "nearest_code"), x.size(0), codes, width, in(x),
                              in(codebook), static_cast<int64_t*>(out(index)), out(workspace)});
  return index;
}

Tensor l2_normalize(Tensor x_RE, double eps) {
  VEOMNI_CHECK(x_RE.dim() >= 1, "l2_normalize: x must have rows");
  return L2NormalizeFunction::apply(x_RE, eps);
}

Tensor squared_error(Tensor a, Tensor b, double scale) {
  return error_sum("squared_error", a, b, scale, true);
}

Tensor absolute_error(Tensor a, Tensor b, double scale) {
  return error_sum("absolute_error", a, b, scale, false);
}

}  // namespace veomni::ops
