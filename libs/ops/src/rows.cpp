// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/rows.h"

#include "launch.h"
#include "row_kernels.h"

namespace veomni::ops {
namespace {

/// [rows, x.size(1), ...]
std::vector<int64_t> with_rows(const Tensor& x, int64_t rows) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes[0] = rows;
  return sizes;
}

Tensor gather(const Tensor& x, const Tensor& index) {
  Tensor y = at::empty(with_rows(x, index.numel()), x.options());
  launch(x.device(),
         kernels::GatherRows{kernel_dtype(x, "gather_rows"), index.numel(), row_width(x), in(x),
                             static_cast<const int64_t*>(in(index)), out(y)});
  return y;
}

/// Overwrites rows of y with those of `source`, or zeros.
void overwrite(const Tensor& y, const Tensor& index, const Tensor& source) {
  launch(y.device(), kernels::PutRows{kernel_dtype(y, "put_rows"), index.numel(), row_width(y),
                                      in(source), static_cast<const int64_t*>(in(index)), out(y)});
}

struct GatherRowsFunction : torch::autograd::Function<GatherRowsFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& index) {
    const trace::Span span(trace::Category::kOp, "gather_rows", "forward");
    context->save_for_backward({index});
    context->saved_data["rows"] = input.size(0);
    return gather(input.contiguous(), index);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("gather_rows");
    const trace::Span span(trace::Category::kOp, "gather_rows", "backward");
    const Tensor index = context->get_saved_variables()[0], dy = grads[0].contiguous();
    Tensor dx = at::empty(with_rows(dy, context->saved_data["rows"].toInt()), dy.options());
    scatter_add_rows("gather_rows", dy, index, Tensor(), dx);
    return {dx, Tensor()};
  }
};

struct PutRowsFunction : torch::autograd::Function<PutRowsFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& index,
                        const Tensor& rows) {
    const trace::Span span(trace::Category::kOp, "put_rows", "forward");
    context->save_for_backward({index});
    Tensor y = at::empty(x.sizes(), x.options());
    y.copy_(x);
    overwrite(y, index, rows.contiguous());
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("put_rows");
    const trace::Span span(trace::Category::kOp, "put_rows", "backward");
    const Tensor index = context->get_saved_variables()[0], dy = grads[0].contiguous();
    Tensor dx, drows;
    if (context->needs_input_grad(0)) {
      dx = at::empty(dy.sizes(), dy.options());
      dx.copy_(dy);
      overwrite(dx, index, Tensor());
    }
    if (context->needs_input_grad(2)) drows = gather(dy, index);
    return {dx, Tensor(), drows};
  }
};

struct AddRowsFunction : torch::autograd::Function<AddRowsFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& index,
                        const Tensor& rows) {
    const trace::Span span(trace::Category::kOp, "add_rows", "forward");
    context->save_for_backward({index});
    Tensor y = at::empty(x.sizes(), x.options());
    scatter_add_rows("add_rows", rows.contiguous(), index, x.contiguous(), y);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("add_rows");
    const trace::Span span(trace::Category::kOp, "add_rows", "backward");
    const Tensor index = context->get_saved_variables()[0], dy = grads[0].contiguous();
    return {dy, Tensor(), context->needs_input_grad(2) ? gather(dy, index) : Tensor()};
  }
};

Tensor check_rows(const char* op, const Tensor& x, const Tensor& token, const Tensor& rows) {
  VEOMNI_CHECK(
      x.dim() >= 1 && rows.dim() == x.dim() && rows.sizes().slice(1) == x.sizes().slice(1) &&
          token.dim() == 1 && rows.size(0) == token.size(0),
      op, ": rows ", rows.sizes(), " at ", token.sizes(), " tokens do not fit x ", x.sizes());
  check_same_kind(op, "x", x, "rows", rows);
  const Tensor index = as_int64(op, "token", token, x);
  check_indices(op, "token", index, x.size(0));
  return index;
}

void check_distinct(const Tensor& index, int64_t limit) {
  if (!index.is_cpu()) return;
  std::vector<bool> seen(limit, false);
  const int64_t* values = index.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < index.numel(); ++i) {
    VEOMNI_CHECK(!seen[values[i]], "put_rows: token[", i, "] = ", values[i], " is named twice");
    seen[values[i]] = true;
  }
}

}  // namespace

int64_t row_width(const Tensor& x) {
  int64_t width = 1;
  for (int64_t d = 1; d < x.dim(); ++d) width *= x.size(d);
  return width;
}

void scatter_add_rows(const char* op, const Tensor& source, const Tensor& index, const Tensor& base,
                      const Tensor& y) {
  const int64_t targets = y.size(0), rows = index.numel();
  Tensor workspace = at::empty({targets + 1 + rows}, y.options().dtype(at::kLong));
  launch(y.device(), kernels::ScatterAddRows{
                         kernel_dtype(source, op), y.scalar_type() != source.scalar_type(), rows,
                         row_width(y), targets, in(source), static_cast<const int64_t*>(in(index)),
                         in(base), out(y), static_cast<int64_t*>(out(workspace))});
}

Tensor gather_rows(Tensor x_TD, Tensor index_R) {
  VEOMNI_CHECK(x_TD.dim() >= 1, "gather_rows: x must have rows");
  const Tensor index = as_int64("gather_rows", "index", index_R, x_TD);
  check_indices("gather_rows", "index", index, x_TD.size(0));
  return GatherRowsFunction::apply(x_TD, index);
}

Tensor put_rows(Tensor x_TD, Tensor token_R, Tensor rows_RD) {
  const Tensor index = check_rows("put_rows", x_TD, token_R, rows_RD);
  check_distinct(index, x_TD.size(0));
  return PutRowsFunction::apply(x_TD, index, rows_RD);
}

Tensor add_rows(Tensor x_TD, Tensor token_R, Tensor rows_RD) {
  return AddRowsFunction::apply(x_TD, check_rows("add_rows", x_TD, token_R, rows_RD), rows_RD);
}

}  // namespace veomni::ops
