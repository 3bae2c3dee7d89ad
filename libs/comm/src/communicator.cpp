// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/communicator.h"

namespace veomni {

WorkPtr Communicator::all_gather(torch::Tensor out, torch::Tensor in) {
  return all_gather_coalesced({std::move(out)}, {std::move(in)});
}

WorkPtr Communicator::reduce_scatter(torch::Tensor out, torch::Tensor in, ReduceOp op) {
  return reduce_scatter_coalesced({std::move(out)}, {std::move(in)}, op);
}

torch::ScalarType accumulate_dtype(torch::ScalarType dtype) {
  if (dtype == torch::kDouble) return torch::kDouble;
  return torch::isFloatingType(dtype) ? torch::kFloat : torch::kLong;
}

}  // namespace veomni
