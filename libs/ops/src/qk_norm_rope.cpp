// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/qk_norm_rope.h"

#include "rope_table.h"

namespace veomni::ops {
namespace {

constexpr const char* kName = "qk_norm_rope";

kernels::QkvShape shape_of(int64_t tokens, int64_t heads, int64_t kv_heads, int64_t width,
                           const Tensor& cos) {
  return {tokens, heads, kv_heads, width, cos.size(1)};
}

Tensor contiguous(const std::optional<Tensor>& x) { return x ? x->contiguous() : Tensor(); }

struct QkNormRopeFunction : torch::autograd::Function<QkNormRopeFunction> {
  static variable_list forward(AutogradContext* context, const Tensor& qkv_input,
                               const std::optional<Tensor>& q_weight_input,
                               const std::optional<Tensor>& k_weight_input, const Tensor& cos,
                               const Tensor& sin, int64_t heads, int64_t kv_heads, double eps) {
    const trace::Span span(trace::Category::kOp, kName, "forward");
    const Tensor qkv = qkv_input.contiguous(), q_weight = contiguous(q_weight_input),
                 k_weight = contiguous(k_weight_input);
    const int64_t tokens = qkv.size(0), width = qkv.size(1) / (heads + 2 * kv_heads);
    const auto shape = shape_of(tokens, heads, kv_heads, width, cos);
    Tensor q = at::empty({tokens, heads, width}, qkv.options());
    Tensor k = at::empty({tokens, kv_heads, width}, qkv.options()), v = at::empty_like(k), rstd;
    const bool normed = q_weight.defined() || k_weight.defined();
    if (normed) rstd = at::empty({tokens, heads + kv_heads}, acc_options(qkv));
    launch(qkv.device(), kernels::QkNormRopeForward{kernel_dtype(qkv, kName), shape, eps, in(qkv),
                                                    in(q_weight), in(k_weight), in(cos), in(sin),
                                                    out(q), out(k), out(v), out(rstd)});
    context->save_for_backward({normed ? qkv : Tensor(), q_weight, k_weight, rstd, cos, sin});
    context->saved_data["heads"] = heads;
    context->saved_data["kv_heads"] = kv_heads;
    context->saved_data["width"] = width;
    context->set_materialize_grads(false);
    return {q, k, v};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order(kName);
    const trace::Span span(trace::Category::kOp, kName, "backward");
    variable_list result(8);
    Tensor like;
    for (Tensor& grad : grads) {
      if (!grad.defined()) continue;
      like = grad = grad.contiguous();
    }
    if (!like.defined()) return result;
    const auto saved = context->get_saved_variables();
    const Tensor &q_weight = saved[1], &k_weight = saved[2], &cos = saved[4];
    const int64_t heads = context->saved_data["heads"].toInt(),
                  kv_heads = context->saved_data["kv_heads"].toInt(),
                  width = context->saved_data["width"].toInt(), tokens = like.size(0);
    // Edges are counted over the inputs that are there.
    const bool of_q = q_weight.defined() && context->needs_input_grad(1);
    const bool of_k = k_weight.defined() && context->needs_input_grad(q_weight.defined() ? 2 : 1);
    Tensor workspace;
    if (q_weight.defined() || k_weight.defined()) {
      workspace =
          at::empty({std::min(tokens, kernels::kReductionBlocks), 3, width}, acc_options(like));
    }
    if (context->needs_input_grad(0))
      result[0] = at::empty({tokens, (heads + 2 * kv_heads) * width}, like.options());
    if (of_q) result[1] = at::empty({width}, acc_options(like));
    if (of_k) result[2] = at::empty({width}, acc_options(like));
    launch(like.device(),
           kernels::QkNormRopeBackward{
               kernel_dtype(like, kName), shape_of(tokens, heads, kv_heads, width, cos),
               in(saved[0]), in(q_weight), in(k_weight), in(cos), in(saved[5]), in(saved[3]),
               in(grads[0]), in(grads[1]), in(grads[2]), out(result[0]), out(result[1]),
               out(result[2]), out(workspace)});
    return result;
  }
};

void check_norm(const Tensor& qkv, int64_t width, const Tensor& weight, const char* name) {
  if (!weight.defined()) return;
  VEOMNI_CHECK(weight.dim() == 1 && weight.size(0) == width, kName, ": ", name, " has shape ",
               weight.sizes(), " but heads have ", width, " dimensions");
  check_same_kind(kName, "qkv", qkv, name, weight);
}

}  // namespace

QkvHeads qk_norm_rope(Tensor qkv, int64_t heads, int64_t kv_heads, const RopeTable& table,
                      const HeadNorms& norms) {
  const int64_t parts = heads + 2 * kv_heads;
  VEOMNI_CHECK(heads > 0 && kv_heads > 0 && qkv.dim() == 2 && qkv.size(1) % parts == 0, kName,
               ": qkv of shape ", qkv.sizes(), " is not [T, (H + 2G) K] for H=", heads,
               " and G=", kv_heads, " heads");
  const int64_t width = qkv.size(1) / parts;
  check_table(kName, qkv, qkv.size(0), width, table);
  check_norm(qkv, width, norms.q_weight_K, "q's weight");
  check_norm(qkv, width, norms.k_weight_K, "k's weight");
  const auto result = QkNormRopeFunction::apply(
      qkv, optional_input(norms.q_weight_K), optional_input(norms.k_weight_K),
      table.cos_TR.contiguous(), table.sin_TR.contiguous(), heads, kv_heads, norms.eps);
  return {result[0], result[1], result[2]};
}

}  // namespace veomni::ops
