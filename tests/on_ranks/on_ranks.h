// SPDX-License-Identifier: Apache-2.0
/// Where the ranks of a test are: threads of the test program, or processes that a launcher started. One test source
/// serves both: libraries' own test programs run theirs in threads, bin/layouts_test in processes.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "veomni/comm/communicator.h"

namespace veomni::on_ranks {

/// From here on this process is one rank of `world`; nullptr: its ranks are threads again.
void enter_world(std::shared_ptr<Communicator> world);

/// Runs body as each of `size` ranks and throws the first failure of those in this process.
///
/// Threads: of this process (run_ranks). Processes: this one's rank, and `size` is the world's; all of them make the same
/// calls. What body throws ends the world's job, so that the other ranks fail too instead of waiting.
/// A size of 1 is this process by itself, in both.
void run(int size, const std::function<void(Communicator&)>& body);

/// Which of `wanted` rank counts this program can have: all with threads, the world's alone with processes. For lists
/// of cases: needs no enter_world().
std::vector<int> rank_counts(std::vector<int> wanted);

/// Whether what `comm`'s rank found is the test's to judge: every process judges its own, threads share rank 0's.
bool keeps(const Communicator& comm);

}  // namespace veomni::on_ranks
