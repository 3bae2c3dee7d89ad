// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/attention.h"

#include <ATen/Parallel.h>

#include "launch.h"

namespace veomni::ops {
namespace {

using Offsets = std::vector<int32_t>;

void check_offsets(const char* name, const Offsets& offsets, int64_t rows) {
  VEOMNI_CHECK(!offsets.empty() && offsets.front() == 0 && offsets.back() == rows,
               "varlen_attention: ", name, " must run from 0 to ", rows,
               offsets.empty() ? ", but is empty" : "");
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    VEOMNI_CHECK(offsets[i] <= offsets[i + 1], "varlen_attention: ", name, "[", i + 1,
                 "] = ", offsets[i + 1], " is below the one before, ", offsets[i]);
  }
}

void check_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Offsets& cu_q,
                     const Offsets& cu_k, const AttentionSpec& spec) {
  VEOMNI_CHECK(q.dim() == 3 && k.dim() == 3 && v.dim() == 3 && k.size(2) == q.size(2) &&
                   v.size(0) == k.size(0) && v.size(1) == k.size(1) && k.size(1) > 0 &&
                   q.size(1) % k.size(1) == 0,
               "varlen_attention: q [T,H,K] = ", q.sizes(), ", k [U,G,K] = ", k.sizes(),
               ", v [U,G,Kv] = ", v.sizes(), " do not fit; G must divide H");
  check_same_kind("varlen_attention", "q", q, "k", k);
  check_same_kind("varlen_attention", "q", q, "v", v);
  check_offsets("cu_q", cu_q, q.size(0));
  check_offsets("cu_k", cu_k, k.size(0));
  VEOMNI_CHECK(cu_q.size() == cu_k.size(), "varlen_attention: ", cu_q.size() - 1,
               " query segments but ", cu_k.size() - 1, " key segments");
  VEOMNI_CHECK(spec.softcap >= 0, "varlen_attention: softcap=", spec.softcap,
               " must not be negative");
  VEOMNI_CHECK(
      !spec.sinks_H.defined() || (spec.sinks_H.dim() == 1 && spec.sinks_H.size(0) == q.size(1) &&
                                  spec.sinks_H.device() == q.device()),
      "varlen_attention: sinks must be [H] = [", q.size(1), "] on q's device");
}

kernels::AttentionShape shape_of(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Offsets& cu_q, const Offsets& cu_k,
                                 const AttentionSpec& spec) {
  return {q.size(1),
          k.size(1),
          q.size(2),
          v.size(2),
          static_cast<int64_t>(cu_q.size()) - 1,
          cu_q.data(),
          cu_k.data(),
          spec.scale,
          spec.softcap,
          spec.causal,
          spec.window_left,
          spec.window_right};
}

/// What forward leaves for backward besides tensors; owned by the context.
struct Problem : torch::CustomClassHolder {
  Offsets cu_q, cu_k;
  AttentionSpec spec;  // without sinks
};

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static variable_list forward(AutogradContext* context, const Tensor& q_input,
                               const Tensor& k_input, const Tensor& v_input,
                               const std::optional<Tensor>& sinks_input,
                               const c10::intrusive_ptr<Problem>& problem) {
    const trace::Span span(trace::Category::kOp, "varlen_attention", "forward");
    const Tensor q = q_input.contiguous(), k = k_input.contiguous(), v = v_input.contiguous();
    const Tensor sinks =
        sinks_input ? sinks_input->to(acc_dtype(q.scalar_type())).contiguous() : Tensor();
    const auto shape = shape_of(q, k, v, problem->cu_q, problem->cu_k, problem->spec);
    Tensor y = at::empty({q.size(0), q.size(1), v.size(2)}, q.options());
    Tensor lse = at::empty({q.size(1), q.size(0)}, acc_options(q));
    Tensor workspace = at::empty(
        {kernels::attention_forward_workspace(shape, at::get_num_threads())}, acc_options(q));
    launch(q.device(),
           kernels::AttentionForward{kernel_dtype(q, "varlen_attention"), shape, in(q), in(k),
                                     in(v), in(sinks), out(y), out(lse), out(workspace)});
    context->save_for_backward({q, k, v, sinks, y, lse});
    context->saved_data["problem"] = c10::IValue::make_capsule(problem);
    context->mark_non_differentiable({lse});
    context->set_materialize_grads(false);
    return {y, lse};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    check_first_order("varlen_attention");
    const trace::Span span(trace::Category::kOp, "varlen_attention", "backward");
    variable_list result(5);
    if (!grads[0].defined()) return result;
    const auto saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &sinks = saved[3],
                 dy = grads[0].contiguous();
    const auto capsule = context->saved_data["problem"].toCapsule();
    const auto& problem = static_cast<const Problem&>(*capsule);
    const auto shape = shape_of(q, k, v, problem.cu_q, problem.cu_k, problem.spec);
    Tensor dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options());
    Tensor dv = at::empty(v.sizes(), v.options()), dsinks;
    if (sinks.defined() && context->needs_input_grad(3))
      dsinks = at::empty(sinks.sizes(), sinks.options());
    Tensor workspace = at::empty(
        {kernels::attention_backward_workspace(shape, at::get_num_threads())}, acc_options(q));
    launch(q.device(),
           kernels::AttentionBackward{kernel_dtype(q, "varlen_attention"), shape, in(q), in(k),
                                      in(v), in(sinks), in(saved[4]), in(saved[5]), in(dy), out(dq),
                                      out(dk), out(dv), out(dsinks), out(workspace)});
    if (context->needs_input_grad(0)) result[0] = dq;
    if (context->needs_input_grad(1)) result[1] = dk;
    if (context->needs_input_grad(2)) result[2] = dv;
    result[3] = dsinks;
    return result;
  }
};

}  // namespace

AttentionResult varlen_attention(Tensor q_THK, Tensor k_UGK, Tensor v_UGK,
                                 const std::vector<int32_t>& cu_q, const std::vector<int32_t>& cu_k,
                                 const AttentionSpec& spec) {
  check_attention(q_THK, k_UGK, v_UGK, cu_q, cu_k, spec);
  auto problem = c10::make_intrusive<Problem>();
  problem->cu_q = cu_q;
  problem->cu_k = cu_k;
  problem->spec = spec;
  problem->spec.sinks_H = Tensor();
  const auto result =
      AttentionFunction::apply(q_THK, k_UGK, v_UGK, optional_input(spec.sinks_H), problem);
  return {result[0], result[1]};
}

}  // namespace veomni::ops
