// SPDX-License-Identifier: Apache-2.0
/// A communicator that writes down when calls begin and when they are waited for.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "forwarding_communicator.h"

namespace veomni::parallel {

/// "gather 3" when the fourth call of a rank begins, "waited 3" when its wait returns.
using Log = std::vector<std::string>;

class RecordingCommunicator final : public ForwardingCommunicator {
 public:
  RecordingCommunicator(std::shared_ptr<Communicator> inner, Log& log)
      : ForwardingCommunicator(std::move(inner)), log_(log) {}

  WorkPtr all_reduce(torch::Tensor out, torch::Tensor in, ReduceOp op) override {
    return record("sum", inner().all_reduce(std::move(out), std::move(in), op));
  }
  WorkPtr all_gather_coalesced(std::vector<torch::Tensor> outs,
                               std::vector<torch::Tensor> ins) override {
    tensors += outs.size();
    return record("gather", inner().all_gather_coalesced(std::move(outs), std::move(ins)));
  }
  WorkPtr reduce_scatter_coalesced(std::vector<torch::Tensor> outs, std::vector<torch::Tensor> ins,
                                   ReduceOp op) override {
    tensors += outs.size();
    return record("reduce", inner().reduce_scatter_coalesced(std::move(outs), std::move(ins), op));
  }

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

  Log& log_;
  int calls_ = 0;
};

}  // namespace veomni::parallel
