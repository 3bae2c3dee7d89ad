// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/group_norm.h"

#include "launch.h"

namespace veomni::ops {
namespace {

kernels::GroupShape shape_of(const Tensor& x, int64_t groups, bool silu) {
  return {x.size(0), x.size(1) * x.size(2), x.size(3), groups, silu};
}

struct GroupNormFunction : torch::autograd::Function<GroupNormFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight_input,
                        const Tensor& bias_input, int64_t groups, double eps, bool silu) {
    const trace::Span span(trace::Category::kOp, "group_norm", "forward");
    const Tensor x = input.contiguous(), weight = weight_input.contiguous(),
                 bias = bias_input.contiguous();
    Tensor y = at::empty(x.sizes(), x.options());
    Tensor mean = at::empty({x.size(0), groups}, acc_options(x));
    Tensor rstd = at::empty({x.size(0), groups}, acc_options(x));
    Tensor workspace = at::empty({x.size(0), 2, x.size(3)}, acc_options(x));
    launch(x.device(), kernels::GroupNormForward{
                           kernel_dtype(x, "group_norm"), shape_of(x, groups, silu), eps, in(x),
                           in(weight), in(bias), out(y), out(mean), out(rstd), out(workspace)});
    context->save_for_backward({x, weight, bias, mean, rstd});
    context->saved_data["silu"] = silu;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("group_norm");
    const trace::Span span(trace::Category::kOp, "group_norm", "backward");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &mean = saved[3], &rstd = saved[4], dy = grads[0].contiguous();
    const auto shape = shape_of(x, mean.size(1), context->saved_data["silu"].toBool());
    Tensor dx, dweight, dbias;
    if (context->needs_input_grad(0)) dx = at::empty(x.sizes(), x.options());
    if (context->needs_input_grad(1)) dweight = at::empty({shape.channels}, acc_options(x));
    if (context->needs_input_grad(2)) dbias = at::empty({shape.channels}, acc_options(x));
    Tensor workspace =
        at::empty({x.size(0), kernels::kGroupNormSums, shape.channels}, acc_options(x));
    launch(x.device(),
           kernels::GroupNormBackward{kernel_dtype(x, "group_norm"), shape, in(x), in(saved[1]),
                                      in(saved[2]), in(mean), in(rstd), in(dy), out(dx),
                                      out(dweight), out(dbias), out(workspace)});
    return {dx, dweight, dbias, Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor group_norm(Tensor x_NHWC, Tensor weight_C, Tensor bias_C, int64_t groups, double eps,
                  bool silu) {
  VEOMNI_CHECK(x_NHWC.dim() == 4, "group_norm: x must be [N, H, W, C], not ", x_NHWC.sizes());
  VEOMNI_CHECK(groups >= 1 && x_NHWC.size(3) % groups == 0, "group_norm: groups=", groups,
               " do not divide the ", x_NHWC.size(3), " channels of x ", x_NHWC.sizes());
  const auto check = [&](const char* name, const Tensor& t) {
    VEOMNI_CHECK(t.dim() == 1 && t.size(0) == x_NHWC.size(3), "group_norm: ", name, " has shape ",
                 t.sizes(), " but x has shape ", x_NHWC.sizes(), "; the last sizes must agree");
    check_same_kind("group_norm", "x", x_NHWC, name, t);
  };
  check("weight", weight_C);
  check("bias", bias_C);
  return GroupNormFunction::apply(x_NHWC, weight_C, bias_C, groups, eps, silu);
}

}  // namespace veomni::ops
