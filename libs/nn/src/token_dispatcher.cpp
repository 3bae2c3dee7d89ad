// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/token_dispatcher.h"

#include "veomni/ops/rows.h"

namespace veomni::nn {

namespace {
// What combine() undoes: the row order of dispatch().
struct LocalBack {
  torch::Tensor order_C;  // routed pair (token * A + slot) of each row
  torch::Tensor token_C;
  torch::Tensor weight_TA;
  int64_t num_tokens;
};
}  // namespace

torch::Tensor LocalDispatcher::choose(torch::Tensor score_TE, int64_t active, const Sequence&) {
  return std::get<1>(score_TE.detach().topk(active, -1));
}

Dispatched LocalDispatcher::dispatch(torch::Tensor x_TD, const Routing& routing) {
  const int64_t active = routing.expert_TA.size(1);
  auto expert_C = routing.expert_TA.reshape({-1});
  auto back = std::make_shared<LocalBack>();
  back->order_C = expert_C.argsort(/*stable=*/true, /*dim=*/0);
  back->token_C = back->order_C.floor_divide(active);
  back->weight_TA = routing.weight_TA;
  back->num_tokens = x_TD.size(0);
  auto load_E = torch::zeros({num_experts_}, routing.weight_TA.options().requires_grad(false));
  load_E.scatter_add_(0, expert_C, torch::ones_like(expert_C, load_E.options()));
  Dispatched out;
  out.rows_CD = ops::gather_rows(x_TD, back->token_C);
  out.end_E = load_E.cumsum(0).to(torch::kInt);
  out.load_E = load_E;
  out.back = back;
  return out;
}

torch::Tensor LocalDispatcher::combine(torch::Tensor y_CD, const Dispatched& from) {
  const auto& back = *std::static_pointer_cast<LocalBack>(from.back);
  auto weight_C1 = ops::gather_rows(back.weight_TA.reshape({-1, 1}), back.order_C);
  auto out_TD =
      torch::zeros({back.num_tokens, y_CD.size(1)}, weight_C1.options().requires_grad(false));
  return ops::add_rows(out_TD, back.token_C, y_CD.to(weight_C1.scalar_type()) * weight_C1)
      .to(y_CD.scalar_type());
}

void DispatchSlot::set_dispatcher(std::shared_ptr<TokenDispatcher> dispatcher) {
  dispatcher_ =
      dispatcher ? std::move(dispatcher) : std::make_shared<LocalDispatcher>(num_experts_);
}

}  // namespace veomni::nn
