// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/embedding.h"

#include "row_kernels.h"

namespace veomni::ops {
namespace {

struct EmbeddingFunction : torch::autograd::Function<EmbeddingFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& ids, const Tensor& weight_input) {
    const trace::Span span(trace::Category::kOp, "embedding", "forward");
    const Tensor weight = weight_input.contiguous();
    Tensor y = at::empty({ids.numel(), weight.size(1)}, weight.options());
    launch(weight.device(),
           kernels::GatherRows{kernel_dtype(weight, "embedding"), ids.numel(), weight.size(1),
                               in(weight), static_cast<const int64_t*>(in(ids)), out(y)});
    context->save_for_backward({ids});
    context->saved_data["vocabulary"] = weight.size(0);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("embedding");
    const trace::Span span(trace::Category::kOp, "embedding", "backward");
    const Tensor ids = context->get_saved_variables()[0], dy = grads[0].contiguous();
    Tensor dweight =
        at::empty({context->saved_data["vocabulary"].toInt(), dy.size(1)}, acc_options(dy));
    scatter_add_rows("embedding", dy, ids, Tensor(), dweight);
    return {Tensor(), dweight};
  }
};

}  // namespace

Tensor embedding(Tensor ids_T, Tensor weight_VD) {
  VEOMNI_CHECK(weight_VD.dim() == 2, "embedding: weight must be [V, D], not ", weight_VD.sizes());
  const Tensor ids = as_int64("embedding", "ids", ids_T, weight_VD);
  check_indices("embedding", "ids", ids, weight_VD.size(0));
  return EmbeddingFunction::apply(ids, weight_VD);
}

}  // namespace veomni::ops
