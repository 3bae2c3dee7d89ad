// SPDX-License-Identifier: Apache-2.0
/// A communicator that hands every call to another one; tests override what they look at.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "veomni/comm/communicator.h"

namespace veomni::parallel {

class ForwardingCommunicator : public Communicator {
 public:
  explicit ForwardingCommunicator(std::shared_ptr<Communicator> inner) : inner_(std::move(inner)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }
  std::chrono::milliseconds timeout() const override { return inner_->timeout(); }

  WorkPtr all_reduce(torch::Tensor out, torch::Tensor in, ReduceOp op) override {
    return inner_->all_reduce(std::move(out), std::move(in), op);
  }
  WorkPtr all_gather_coalesced(std::vector<torch::Tensor> outs,
                               std::vector<torch::Tensor> ins) override {
    return inner_->all_gather_coalesced(std::move(outs), std::move(ins));
  }
  WorkPtr reduce_scatter_coalesced(std::vector<torch::Tensor> outs, std::vector<torch::Tensor> ins,
                                   ReduceOp op) override {
    return inner_->reduce_scatter_coalesced(std::move(outs), std::move(ins), op);
  }
  WorkPtr all_to_all(torch::Tensor out, torch::Tensor in, std::vector<int64_t> out_splits,
                     std::vector<int64_t> in_splits) override {
    return inner_->all_to_all(std::move(out), std::move(in), std::move(out_splits),
                              std::move(in_splits));
  }
  WorkPtr broadcast(torch::Tensor tensor, int root) override {
    return inner_->broadcast(std::move(tensor), root);
  }
  WorkPtr barrier() override { return inner_->barrier(); }
  std::shared_ptr<Communicator> split(int color, const std::string& name) override {
    return inner_->split(color, name);
  }
  void abort(const std::string& reason) override { inner_->abort(reason); }

 protected:
  Communicator& inner() const { return *inner_; }

 private:
  std::shared_ptr<Communicator> inner_;
};

}  // namespace veomni::parallel
