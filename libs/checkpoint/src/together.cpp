// SPDX-License-Identifier: Apache-2.0
#include "together.h"

#include "veomni/base/error.h"

namespace veomni::checkpoint {

void together(Communicator& world, const std::function<void()>& action) {
  std::string problem;
  try {
    action();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  auto failed = torch::full({1}, problem.empty() ? 0 : 1, torch::kLong);
  world.all_reduce(failed, failed, ReduceOp::kMax)->wait();
  if (!problem.empty()) throw Error(problem);
  VEOMNI_CHECK(failed.data_ptr<int64_t>()[0] == 0,
               "another rank could not write or read its part of the checkpoint");
}

}  // namespace veomni::checkpoint
