// SPDX-License-Identifier: Apache-2.0
/// A communicator that writes down when calls begin and when they are waited for.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "veomni/comm/communicator.h"

namespace veomni::parallel {

/// "gather 3" when the fourth call of a rank begins, "waited 3" when its wait returns.
using Log = std::vector<std::string>;

class RecordingCommunicator final : public Communicator {
 public:
  RecordingCommunicator(std::shared_ptr<Communicator> inner, Log& log)
      : inner_(std::move(inner)), log_(log) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }
  std::chrono::milliseconds timeout() const override { return inner_->timeout(); }

  WorkPtr all_reduce(torch::Tensor out, torch::Tensor in, ReduceOp op) override {
    return record("sum", inner_->all_reduce(std::move(out), std::move(in), op));
  }
  WorkPtr all_gather_coalesced(std::vector<torch::Tensor> outs,
                               std::vector<torch::Tensor> ins) override {
    tensors += outs.size();
    return record("gather", inner_->all_gather_coalesced(std::move(outs), std::move(ins)));
  }
  WorkPtr reduce_scatter_coalesced(std::vector<torch::Tensor> outs, std::vector<torch::Tensor> ins,
                                   ReduceOp op) override {
    tensors += outs.size();
    return record("reduce", inner_->reduce_scatter_coalesced(std::move(outs), std::move(ins), op));
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

  size_t tensors = 0;  ///< gathered and scattered so far

 private:
  struct RecordingWork final : Work {
    WorkPtr inner;
    Log* log;
    std::string label;
    void wait(std::chrono::milliseconds timeout) override {
      inner->wait(timeout);
      log->push_back(label);
    }
  };
  WorkPtr record(const std::string& what, WorkPtr inner) {
    log_.push_back(what + " " + std::to_string(calls_));
    auto work = std::make_unique<RecordingWork>();
    work->inner = std::move(inner);
    work->log = &log_;
    work->label = "waited " + std::to_string(calls_++);
    return work;
  }

  std::shared_ptr<Communicator> inner_;
  Log& log_;
  int calls_ = 0;
};

}  // namespace veomni::parallel
