// SPDX-License-Identifier: Apache-2.0
#include "on_ranks.h"

#include "veomni/base/error.h"
#include "veomni/comm/launch.h"
#include "veomni/comm/local.h"
#include "veomni/comm/run_ranks.h"

namespace veomni::on_ranks {

namespace {

std::shared_ptr<Communicator>& world() {
  static std::shared_ptr<Communicator> entered;
  return entered;
}

}  // namespace

void enter_world(std::shared_ptr<Communicator> entered) { world() = std::move(entered); }

void run(int size, const std::function<void(Communicator&)>& body) {
  if (!world()) return run_ranks(size, body);
  if (size == 1) return body(*make_single_communicator());
  VEOMNI_CHECK(size == world()->size(), "a test asks for ", size, " ranks of a world of ",
               world()->size(), "; take them from rank_counts()");
  try {
    body(*world());
  } catch (const std::exception& error) {
    world()->abort(error.what());
    throw;
  }
}

std::vector<int> rank_counts(std::vector<int> wanted) {
  const Launch launch = detect_launch(process_environment);
  if (launch.kind == Launch::Kind::kAlone) return wanted;
  return {launch.size};
}

bool keeps(const Communicator& comm) { return world() || comm.rank() == 0; }

}  // namespace veomni::on_ranks
