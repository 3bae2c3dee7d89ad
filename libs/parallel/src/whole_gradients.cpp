// SPDX-License-Identifier: Apache-2.0
#include "whole_gradients.h"

#include <algorithm>

namespace veomni::parallel {

namespace {

/// What a sum of `in` is written to: itself where it is wide enough.
torch::Tensor sum_of(const torch::Tensor& in, torch::ScalarType dtype) {
  return in.scalar_type() == dtype ? in : torch::empty(in.sizes(), in.options().dtype(dtype));
}

}  // namespace

void WholeGradient::store(const torch::Tensor& sum) {
  const auto shaped = sum.view(parameter.shape());
  parameter.set_grad(prior.defined() ? prior.add_(shaped) : shaped);
}

std::vector<torch::Tensor> start_sums(std::vector<WholeGradient>& gradients, Communicator& group,
                                      std::vector<WorkPtr>& works) {
  std::vector<torch::Tensor> sums;
  for (auto& whole : gradients) {
    sums.push_back(sum_of(whole.gradient, whole.sum_dtype()));
    works.push_back(group.all_reduce(sums.back(), whole.gradient, ReduceOp::kSum));
  }
  return sums;
}

bool GradientBuckets::Bucket::takes(const std::shared_ptr<Communicator>& other,
                                    const WholeGradient& gradient) const {
  return group == other && gradients[0].gradient.scalar_type() == gradient.gradient.scalar_type() &&
         gradients[0].sum_dtype() == gradient.sum_dtype();
}

void GradientBuckets::Bucket::start() {
  int64_t numel = 0, at = 0;
  for (const auto& whole : gradients) numel += whole.gradient.numel();
  flat = empty_in_window(*group, {numel}, gradients[0].gradient.options().requires_grad(false));
  for (auto& whole : gradients) {
    flat.narrow(0, at, whole.gradient.numel()).copy_(whole.gradient.view({-1}));
    at += whole.gradient.numel();
    whole.gradient = torch::Tensor();
  }
  sums = sum_of(flat, gradients[0].sum_dtype());
  work = group->all_reduce(sums, flat, ReduceOp::kSum);
}

void GradientBuckets::add(const std::shared_ptr<Communicator>& group, int64_t bucket_bytes,
                          WholeGradient gradient) {
  auto bucket = std::find_if(open_.begin(), open_.end(),
                             [&](const Bucket& b) { return b.takes(group, gradient); });
  if (bucket == open_.end()) bucket = open_.insert(open_.end(), Bucket{.group = group});
  bucket->bytes += static_cast<int64_t>(gradient.gradient.nbytes());
  bucket->gradients.push_back(std::move(gradient));
  if (bucket->bytes < bucket_bytes) return;
  bucket->start();
  started_.push_back(std::move(*bucket));
  open_.erase(bucket);
}

int64_t GradientBuckets::finish() {
  for (auto& bucket : open_) {
    bucket.start();
    started_.push_back(std::move(bucket));
  }
  open_.clear();
  for (auto& bucket : started_) {
    bucket.work->wait();
    bucket.flat = torch::Tensor();
    int64_t at = 0;
    for (auto& whole : bucket.gradients) {
      whole.store(bucket.sums.narrow(0, at, whole.parameter.numel()));
      at += whole.parameter.numel();
    }
  }
  const auto count = static_cast<int64_t>(started_.size());
  started_.clear();
  return count;
}

}  // namespace veomni::parallel
