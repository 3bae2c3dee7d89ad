// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/parameter.h"

#include <numeric>

#include "veomni/base/error.h"

namespace veomni::nn {

torch::ScalarType wide_dtype(torch::ScalarType dtype) {
  return dtype == torch::kDouble ? torch::kDouble : torch::kFloat;
}

Parameter::Parameter(std::vector<int64_t> shape, const ParamOptions& options, Init init,
                     uint32_t tags)
    : state_(std::make_shared<State>()) {
  state_->init = init;
  state_->tags = tags;
  state_->shard = io::ShardSpec::whole(shape);
  state_->shape = std::move(shape);
  state_->value = torch::empty(state_->shape, torch::dtype(options.dtype).device(options.device));
  state_->local = state_->value.detach();
  set_trainable(true);
}

int64_t Parameter::numel() const {
  return std::accumulate(shape().begin(), shape().end(), int64_t{1}, std::multiplies<>());
}

void Parameter::set_trainable(bool trainable) {
  state_->value.set_requires_grad(trainable);
  if (trainable) state_->value.set_grad_dtype(wide_dtype(dtype()));
}

torch::Tensor Parameter::grad() const {
  return shard().is_sharded() ? state_->shard_grad : state_->value.grad();
}

void Parameter::set_grad(torch::Tensor grad) {
  if (shard().is_sharded()) {
    state_->shard_grad = std::move(grad);
  } else {
    state_->value.mutable_grad() = std::move(grad);
  }
}

void Parameter::clear_grad() {
  state_->value.mutable_grad() = torch::Tensor();
  state_->shard_grad = torch::Tensor();
}

void Parameter::replace_value(torch::Tensor value) {
  const bool was_trainable = trainable();
  state_->value = std::move(value);
  state_->packed->release();
  written();
  set_trainable(was_trainable);
}

void Parameter::replace_local(torch::Tensor local, torch::Tensor master) {
  state_->local = std::move(local);
  state_->master = std::move(master);
}

void Parameter::assign_local(const torch::Tensor& rows) {
  VEOMNI_CHECK(rows.sizes() == state_->local.sizes(), "parameter ", name(), ": a part of shape ",
               rows.sizes(), " do not fit its shard ", state_->local.sizes());
  torch::NoGradGuard no_grad;
  if (state_->master.defined()) state_->master.copy_(rows);
  if (!state_->master.defined() || !state_->master.is_alias_of(state_->local))
    state_->local.copy_(rows);
  written();
}

}  // namespace veomni::nn
