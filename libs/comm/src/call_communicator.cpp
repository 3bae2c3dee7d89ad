// SPDX-License-Identifier: Apache-2.0
#include "call_communicator.h"

#include <utility>

namespace veomni {

WorkPtr CallCommunicator::all_reduce(torch::Tensor out, torch::Tensor in, ReduceOp op) {
  return start({.operation = Operation::kAllReduce, .outs = {out}, .ins = {in}, .reduce = op});
}

WorkPtr CallCommunicator::all_gather_coalesced(std::vector<torch::Tensor> outs,
                                               std::vector<torch::Tensor> ins) {
  return start(
      {.operation = Operation::kAllGather, .outs = std::move(outs), .ins = std::move(ins)});
}

WorkPtr CallCommunicator::reduce_scatter_coalesced(std::vector<torch::Tensor> outs,
                                                   std::vector<torch::Tensor> ins, ReduceOp op) {
  return start({.operation = Operation::kReduceScatter,
                .outs = std::move(outs),
                .ins = std::move(ins),
                .reduce = op});
}

WorkPtr CallCommunicator::all_to_all(torch::Tensor out, torch::Tensor in,
                                     std::vector<int64_t> out_splits,
                                     std::vector<int64_t> in_splits) {
  return start({.operation = Operation::kAllToAll,
                .outs = {out},
                .ins = {in},
                .out_splits = std::move(out_splits),
                .in_splits = std::move(in_splits)});
}

WorkPtr CallCommunicator::broadcast(torch::Tensor tensor, int root) {
  return start(
      {.operation = Operation::kBroadcast, .outs = {tensor}, .ins = {tensor}, .root = root});
}

WorkPtr CallCommunicator::barrier() { return start({.operation = Operation::kBarrier}); }

}  // namespace veomni
