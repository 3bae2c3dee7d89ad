// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/resample.h"

#include "launch.h"

namespace veomni::ops {
namespace {

struct UpsampleFunction : torch::autograd::Function<UpsampleFunction> {
  static Tensor forward(AutogradContext*, const Tensor& input) {
    const trace::Span span(trace::Category::kOp, "upsample_nearest2x", "forward");
    const Tensor x = input.contiguous();
    Tensor y = at::empty({x.size(0), 2 * x.size(1), 2 * x.size(2), x.size(3)}, x.options());
    launch(x.device(),
           kernels::RepeatPixels{kernel_dtype(x, "upsample_nearest2x"), x.size(0) * x.size(1),
                                 x.size(2), x.size(3), in(x), out(y)});
    return y;
  }

  static variable_list backward(AutogradContext*, variable_list grads) {
    check_first_order("upsample_nearest2x");
    const trace::Span span(trace::Category::kOp, "upsample_nearest2x", "backward");
    const Tensor dy = grads[0].contiguous();
    Tensor dx = at::empty({dy.size(0), dy.size(1) / 2, dy.size(2) / 2, dy.size(3)}, dy.options());
    launch(dy.device(),
           kernels::SumPixels{kernel_dtype(dy, "upsample_nearest2x"), dx.size(0) * dx.size(1),
                              dx.size(2), dx.size(3), in(dy), out(dx)});
    return {dx};
  }
};

struct MeanPairsFunction : torch::autograd::Function<MeanPairsFunction> {
  static Tensor forward(AutogradContext*, const Tensor& input) {
    const trace::Span span(trace::Category::kOp, "mean_pairs", "forward");
    const Tensor x = input.contiguous();
    Tensor y = at::empty({x.size(0) / 2, x.size(1)}, x.options());
    launch(x.device(),
           kernels::MeanPairs{kernel_dtype(x, "mean_pairs"), y.size(0), y.size(1), in(x), out(y)});
    return y;
  }

  static variable_list backward(AutogradContext*, variable_list grads) {
    check_first_order("mean_pairs");
    const trace::Span span(trace::Category::kOp, "mean_pairs", "backward");
    const Tensor dy = grads[0].contiguous();
    Tensor dx = at::empty({2 * dy.size(0), dy.size(1)}, dy.options());
    launch(dy.device(), kernels::SpreadPairs{kernel_dtype(dy, "mean_pairs"), dy.size(0), dy.size(1),
                                             in(dy), out(dx)});
    return {dx};
  }
};

}  // namespace

Tensor upsample_nearest2x(Tensor x_NHWC) {
  VEOMNI_CHECK(x_NHWC.dim() == 4, "upsample_nearest2x: x must be [N, H, W, C], not ",
               x_NHWC.sizes());
  return UpsampleFunction::apply(x_NHWC);
}

Tensor mean_pairs(Tensor x_TD) {
  VEOMNI_CHECK(x_TD.dim() == 2, "mean_pairs: x must be [T, D], not ", x_TD.sizes());
  VEOMNI_CHECK(x_TD.size(0) % 2 == 0, "mean_pairs: T=", x_TD.size(0),
               " rows do not make pairs; drop or repeat the last");
  return MeanPairsFunction::apply(x_TD);
}

}  // namespace veomni::ops
