// SPDX-License-Identifier: Apache-2.0
/// A Communicator whose operations are Calls: a backend starts any of them in one way.
#pragma once

#include "call.h"

namespace veomni {

class CallCommunicator : public Communicator {
 public:
  WorkPtr all_reduce(torch::Tensor out, torch::Tensor in, ReduceOp op) final;
  WorkPtr all_gather_coalesced(std::vector<torch::Tensor> outs,
                               std::vector<torch::Tensor> ins) final;
  WorkPtr reduce_scatter_coalesced(std::vector<torch::Tensor> outs, std::vector<torch::Tensor> ins,
                                   ReduceOp op) final;
  WorkPtr all_to_all(torch::Tensor out, torch::Tensor in, std::vector<int64_t> out_splits,
                     std::vector<int64_t> in_splits) final;
  WorkPtr broadcast(torch::Tensor tensor, int root) final;
  WorkPtr barrier() final;

 private:
  virtual WorkPtr start(Call call) = 0;
};

}  // namespace veomni
