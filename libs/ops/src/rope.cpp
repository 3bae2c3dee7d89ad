// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/rope.h"

#include "rope_table.h"
#include "veomni/ops/allocation_count.h"

namespace veomni::ops {
namespace {

Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse) {
  Tensor y = at::empty(x.sizes(), x.options());
  launch(x.device(), kernels::RopeRotate{kernel_dtype(x, "rope"), x.size(0), x.size(1), x.size(2),
                                         cos.size(1), inverse, in(x), in(cos), in(sin), out(y)});
  return y;
}

struct RopeFunction : torch::autograd::Function<RopeFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& cos,
                        const Tensor& sin) {
    const trace::Span span(trace::Category::kOp, "rope", "forward");
    context->save_for_backward({cos, sin});
    return rotate(x.contiguous(), cos, sin, false);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("rope");
    const trace::Span span(trace::Category::kOp, "rope", "backward");
    const auto saved = context->get_saved_variables();
    return {rotate(grads[0].contiguous(), saved[0], saved[1], true), Tensor(), Tensor()};
  }
};

}  // namespace

std::vector<double> default_inv_freq(double theta, int64_t rotary_dim) {
  VEOMNI_CHECK(theta > 0 && rotary_dim >= 0 && rotary_dim % 2 == 0,
               "default_inv_freq: theta=", theta, " must be positive and rotary_dim=", rotary_dim,
               " even");
  const AtenScope aten;
  const at::NoGradGuard no_grad;
  const Tensor exponent =
      at::arange(0, rotary_dim, 2, at::kLong).to(at::kFloat) / static_cast<double>(rotary_dim);
  const Tensor inv_freq = at::pow(theta, exponent).reciprocal().to(at::kDouble);
  const double* values = inv_freq.const_data_ptr<double>();
  return {values, values + inv_freq.numel()};
}

RopeTable rope_table(Tensor position_ids_AT, const std::vector<double>& inv_freq,
                     const std::vector<int32_t>& axis_of_freq, at::ScalarType compute_dtype,
                     double attention_scaling) {
  VEOMNI_CHECK(position_ids_AT.dim() == 2 && axis_of_freq.size() == inv_freq.size(),
               "rope_table: position_ids [A, T] = ", position_ids_AT.sizes(), ", ",
               axis_of_freq.size(), " axes for ", inv_freq.size(), " frequencies");
  const Tensor position =
      as_int64("rope_table", "position_ids", position_ids_AT.reshape({-1}), position_ids_AT);
  const int64_t tokens = position_ids_AT.size(1), freqs = inv_freq.size();
  for (int32_t axis : axis_of_freq) {
    VEOMNI_CHECK(axis >= 0 && axis < position_ids_AT.size(0), "rope_table: axis ", axis,
                 " of position_ids ", position_ids_AT.sizes(), " does not exist");
  }
  const auto options = position.options().dtype(acc_dtype(compute_dtype));
  RopeTable table{at::empty({tokens, freqs}, options), at::empty({tokens, freqs}, options)};
  launch(position.device(),
         kernels::RopeAngles{kernel_dtype(table.cos_TR, "rope_table"), tokens, freqs,
                             attention_scaling, static_cast<const int64_t*>(in(position)),
                             inv_freq.data(), axis_of_freq.data(), out(table.cos_TR),
                             out(table.sin_TR)});
  return table;
}

RopeTable rope_table(Tensor position_ids_T, const std::vector<double>& inv_freq,
                     at::ScalarType compute_dtype, double attention_scaling) {
  return rope_table(position_ids_T.unsqueeze(0), inv_freq, std::vector<int32_t>(inv_freq.size(), 0),
                    compute_dtype, attention_scaling);
}

void check_table(const char* op, const Tensor& x, int64_t tokens, int64_t width,
                 const RopeTable& table) {
  const Tensor &cos = table.cos_TR, &sin = table.sin_TR;
  VEOMNI_CHECK(cos.dim() == 2 && sin.sizes() == cos.sizes() && cos.size(0) == tokens &&
                   2 * cos.size(1) <= width,
               op, ": a table of ", cos.sizes(), " does not fit ", tokens, " tokens with heads of ",
               width, " (x is ", x.sizes(), ")");
  VEOMNI_CHECK(cos.scalar_type() == acc_dtype(x.scalar_type()) &&
                   sin.scalar_type() == cos.scalar_type() && cos.device() == x.device(),
               op, ": the table is ", c10::toString(cos.scalar_type()), " on ", cos.device().str(),
               " but x is ", c10::toString(x.scalar_type()), " on ", x.device().str(),
               "; make it with rope_table(position_ids on that device, ..., x's dtype)");
}

Tensor rope(Tensor x_THK, const RopeTable& table) {
  VEOMNI_CHECK(x_THK.dim() == 3, "rope: x must be [T, H, K], not ", x_THK.sizes());
  check_table("rope", x_THK, x_THK.size(0), x_THK.size(2), table);
  return RopeFunction::apply(x_THK, table.cos_TR.contiguous(), table.sin_TR.contiguous());
}

}  // namespace veomni::ops
