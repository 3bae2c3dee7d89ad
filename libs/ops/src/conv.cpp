// SPDX-License-Identifier: Apache-2.0
// Of stride 1: kernels of its own. Any other, or one too wide for them, is a product of windows, laid
// out as rows, with the weight. Either way the gradient of x is a convolution too: of windows of dy,
// those that read a pixel, with the weight turned round.
#include "veomni/ops/conv.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

#include "gemm.h"

namespace veomni::ops {
namespace {

using kernels::WindowAxis;

// Two to eight MiB: few products, and windows that are still in the cache when they are multiplied.
constexpr int64_t kChunkElements = 1 << 20;

// N pictures  H, W height, width  C, O channels in, out  K taps of the kernel
struct Geometry {
  int64_t pictures, channels, features;
  WindowAxis vertical, horizontal;

  int64_t taps() const { return vertical.taps * horizontal.taps; }
  int64_t rows_in() const { return pictures * vertical.size * horizontal.size; }
  int64_t rows_out() const { return pictures * vertical.windows * horizontal.windows; }
};

/// Windows over the axis that `axis` makes: for every position of x, the windows that read it.
WindowAxis transposed(const WindowAxis& axis) {
  return {axis.windows, axis.size, axis.taps, 1, -1, -axis.offset, axis.stride};
}

/// One tap a position: the windows over this axis are the positions themselves.
bool is_identity(const WindowAxis& axis) {
  return axis.taps == 1 && axis.size == axis.windows && axis.offset == 0;
}

/// Calls body(first, rows, windows [rows, taps · channels]) over all windows of x, in chunks, at
/// least once.
template <typename Body>
void for_windows(const Tensor& x, int64_t channels, const WindowAxis& vertical,
                 const WindowAxis& horizontal, int64_t rows, const Body& body) {
  if (is_identity(vertical) && is_identity(horizontal)) {
    body(0, rows, x.view({rows, channels}));
    return;
  }
  const int64_t width = vertical.taps * horizontal.taps * channels;
  const int64_t chunk =
      std::min(rows, std::max<int64_t>(1, kChunkElements / std::max<int64_t>(width, 1)));
  const Tensor windows = at::empty({chunk, width}, x.options());
  int64_t first = 0;
  do {
    const int64_t n = std::min(chunk, rows - first);
    const Tensor part = windows.narrow(0, 0, n);
    launch(x.device(), kernels::GatherWindows{kernel_dtype(x, "conv2d"), first, n, channels,
                                              vertical, horizontal, in(x), out(part)});
    body(first, n, part);
    first += n;
  } while (first < rows);
}

Geometry geometry_of(at::IntArrayRef x, at::IntArrayRef weight, const std::vector<int64_t>& o) {
  const auto axis = [](int64_t size, int64_t taps, int64_t stride, int64_t before, int64_t after) {
    return WindowAxis{size, (size + before + after - taps) / stride + 1, taps, stride, 1, -before,
                      1};
  };
  return {x[0], x[3], weight[0], axis(x[1], weight[2], o[0], o[2], o[3]),
          axis(x[2], weight[3], o[1], o[4], o[5])};
}

/// What the kernels for stride 1 are told of the result, or of the gradient of x.
kernels::ConvolveShape shape_of(const Geometry& g) {
  return {g.pictures,         g.vertical.size,      g.horizontal.size,   g.channels,
          g.vertical.windows, g.horizontal.windows, g.features,          g.vertical.taps,
          g.horizontal.taps,  -g.vertical.offset,   -g.horizontal.offset};
}
kernels::ConvolveShape gradient_shape_of(const Geometry& g) {
  return {g.pictures,
          g.vertical.windows,
          g.horizontal.windows,
          g.features,
          g.vertical.size,
          g.horizontal.size,
          g.channels,
          g.vertical.taps,
          g.horizontal.taps,
          g.vertical.taps - 1 + g.vertical.offset,
          g.horizontal.taps - 1 + g.horizontal.offset};
}

/// Whether the kernels for stride 1 are the faster way: they compute a row for every pixel of a padded
/// line, which is too many where lines are short (bench/micro/pictures_bench: 7 pixels under a kernel
/// of 3).
bool has_own_kernels(const Geometry& g) {
  return g.taps() > 1 && 5 * (g.horizontal.taps - 1) <= g.horizontal.windows &&
         g.vertical.stride == 1 && g.horizontal.stride == 1 &&
         kernels::fits_convolve(shape_of(g)) && kernels::fits_convolve(gradient_shape_of(g));
}

Tensor workspace_for(int64_t elements, const Tensor& x) {
  return at::empty({elements}, acc_options(x));
}

/// y, or with the weight turned round dx.
void convolve(const kernels::ConvolveShape& shape, const Tensor& x, const Tensor& weight_OCKK,
              bool turned, const Tensor& bias, const Tensor& y) {
  const Tensor weight = turned ? weight_OCKK.transpose(0, 1) : weight_OCKK;
  int64_t stride_i = weight.stride(2), stride_j = weight.stride(3);
  const char* first = static_cast<const char*>(in(weight));
  if (turned) {
    if (first) {
      first += ((shape.kernel_h - 1) * stride_i + (shape.kernel_w - 1) * stride_j) *
               weight.element_size();
    }
    stride_i = -stride_i;
    stride_j = -stride_j;
  }
  const Tensor workspace =
      workspace_for(kernels::convolve_workspace(shape, at::get_num_threads()), x);
  launch(x.device(),
         kernels::Convolve{kernel_dtype(x, "conv2d"), shape, in(x), first, weight.stride(0),
                           weight.stride(1), stride_i, stride_j, in(bias), out(y), out(workspace)});
}

void multiply_windows(const Geometry& g, const Tensor& x, const Tensor& weight_OCKK,
                      const Tensor& bias, const Tensor& y) {
  const Tensor weight =
      weight_OCKK.permute({0, 2, 3, 1}).contiguous().view({g.features, g.taps() * g.channels});
  const Tensor y_rows = y.view({g.rows_out(), g.features});
  for_windows(x, g.channels, g.vertical, g.horizontal, g.rows_out(),
              [&](int64_t first, int64_t rows, const Tensor& windows) {
                matmul_nt(y_rows.narrow(0, first, rows), windows, weight);
              });
  if (bias.defined()) {
    launch(x.device(),
           kernels::AddBias{kernel_dtype(x, "conv2d"), g.rows_out(), g.features, in(bias), out(y)});
  }
}

struct Conv2dFunction : torch::autograd::Function<Conv2dFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight,
                        const std::optional<Tensor>& bias_input,
                        const std::vector<int64_t>& options) {
    const trace::Span span(trace::Category::kOp, "conv2d", "forward");
    const Tensor x = input.contiguous(), bias = bias_input ? bias_input->contiguous() : Tensor();
    const Geometry g = geometry_of(x.sizes(), weight.sizes(), options);
    Tensor y =
        at::empty({g.pictures, g.vertical.windows, g.horizontal.windows, g.features}, x.options());
    if (has_own_kernels(g)) {
      convolve(shape_of(g), x, weight, false, bias, y);
    } else {
      multiply_windows(g, x, weight, bias, y);
    }
    // A frozen weight's gradient needs no x, and a leaf x's none of the weight.
    context->save_for_backward(
        {weight.requires_grad() ? x : Tensor(), input.requires_grad() ? weight : Tensor()});
    context->saved_data["has_bias"] = bias_input.has_value();
    context->saved_data["x"] = x.sizes().vec();
    context->saved_data["weight"] = weight.sizes().vec();
    context->saved_data["options"] = options;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("conv2d");
    const trace::Span span(trace::Category::kOp, "conv2d", "backward");
    const auto saved = context->get_saved_variables();
    const std::vector<int64_t> x_sizes = context->saved_data["x"].toIntVector();
    const Geometry g = geometry_of(x_sizes, context->saved_data["weight"].toIntVector(),
                                   context->saved_data["options"].toIntVector());
    const Tensor dy = grads[0].contiguous();
    Tensor dx, dweight, dbias;
    if (context->needs_input_grad(0)) {
      dx = at::empty(x_sizes, dy.options());
      x_gradient(g, dy, saved[1], dx);
    }
    if (context->needs_input_grad(1)) dweight = weight_gradient(g, dy, saved[0]);
    if (context->saved_data["has_bias"].toBool() && context->needs_input_grad(2)) {
      dbias = bias_gradient(g, dy);
    }
    return {dx, dweight, dbias, Tensor()};
  }

  static void x_gradient(const Geometry& g, const Tensor& dy, const Tensor& weight_OCKK,
                         const Tensor& dx) {
    if (has_own_kernels(g)) return convolve(gradient_shape_of(g), dy, weight_OCKK, true, {}, dx);
    const Tensor dx_rows = dx.view({g.rows_in(), g.channels});
    const Tensor weight =
        weight_OCKK.permute({1, 2, 3, 0}).contiguous().view({g.channels, g.taps() * g.features});
    for_windows(dy, g.features, transposed(g.vertical), transposed(g.horizontal), g.rows_in(),
                [&](int64_t first, int64_t rows, const Tensor& windows) {
                  matmul_nt(dx_rows.narrow(0, first, rows), windows, weight);
                });
  }

  static Tensor weight_gradient(const Geometry& g, const Tensor& dy, const Tensor& x) {
    if (has_own_kernels(g)) {
      const auto shape = shape_of(g);
      Tensor dweight =
          at::empty({g.features, g.channels, g.vertical.taps, g.horizontal.taps}, acc_options(dy));
      const Tensor workspace =
          workspace_for(kernels::convolve_weight_workspace(shape, at::get_num_threads()), dy);
      launch(dy.device(), kernels::ConvolveWeight{kernel_dtype(dy, "conv2d"), shape, in(x), in(dy),
                                                  out(dweight), out(workspace)});
      return dweight;
    }
    const Tensor dy_rows = dy.view({g.rows_out(), g.features});
    const Tensor dweight = at::empty({g.features, g.taps() * g.channels}, acc_options(dy));
    for_windows(x, g.channels, g.vertical, g.horizontal, g.rows_out(),
                [&](int64_t first, int64_t rows, const Tensor& windows) {
                  matmul_tn(dweight, dy_rows.narrow(0, first, rows), windows, first > 0);
                });
    return dweight.view({g.features, g.vertical.taps, g.horizontal.taps, g.channels})
        .permute({0, 3, 1, 2})
        .contiguous();
  }

  static Tensor bias_gradient(const Geometry& g, const Tensor& dy) {
    Tensor dbias = at::empty({g.features}, acc_options(dy));
    Tensor workspace =
        at::empty({std::min(g.rows_out(), kernels::kReductionBlocks), g.features}, acc_options(dy));
    launch(dy.device(), kernels::ColumnSum{kernel_dtype(dy, "conv2d"), g.rows_out(), g.features,
                                           in(dy), out(dbias), out(workspace)});
    return dbias;
  }
};

void check_conv(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& o) {
  VEOMNI_CHECK(x.dim() == 4 && weight.dim() == 4 && x.size(3) == weight.size(1),
               "conv2d: x [N, H, W, C] = ", x.sizes(),
               " does not fit weight [O, C, kh, kw] = ", weight.sizes(),
               "; the channels C must agree");
  check_same_kind("conv2d", "x", x, "weight", weight);
  kernel_dtype(x, "conv2d");
  if (bias.defined()) {
    VEOMNI_CHECK(bias.dim() == 1 && bias.size(0) == weight.size(0), "conv2d: bias ", bias.sizes(),
                 " does not fit weight [O, C, kh, kw] = ", weight.sizes());
    check_same_kind("conv2d", "x", x, "bias", bias);
  }
  VEOMNI_CHECK(o.stride_h >= 1 && o.stride_w >= 1, "conv2d: strides ", o.stride_h, " and ",
               o.stride_w, " must be at least 1");
  VEOMNI_CHECK(std::min({o.pad_top, o.pad_bottom, o.pad_left, o.pad_right}) >= 0,
               "conv2d: padding must not be negative");
  VEOMNI_CHECK(weight.size(2) >= 1 && weight.size(3) >= 1 &&
                   x.size(1) + o.pad_top + o.pad_bottom >= weight.size(2) &&
                   x.size(2) + o.pad_left + o.pad_right >= weight.size(3),
               "conv2d: a kernel of ", weight.size(2), " x ", weight.size(3),
               " does not fit into pictures of ", x.size(1), " x ", x.size(2), " with padding ",
               o.pad_top, ", ", o.pad_bottom, ", ", o.pad_left, ", ", o.pad_right);
}

}  // namespace

Tensor conv2d(Tensor x_NHWC, Tensor weight_OCKK, Tensor bias_O, Conv2dOptions options) {
  check_conv(x_NHWC, weight_OCKK, bias_O, options);
  const std::vector<int64_t> numbers = {options.stride_h,   options.stride_w, options.pad_top,
                                        options.pad_bottom, options.pad_left, options.pad_right};
  return Conv2dFunction::apply(x_NHWC, weight_OCKK, optional_input(bias_O), numbers);
}

}  // namespace veomni::ops
