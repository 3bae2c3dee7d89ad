// SPDX-License-Identifier: Apache-2.0
/// Runs one function per rank, each in a thread of this process: distributed tests, and
/// `comm.backend: local`.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "veomni/comm/communicator.h"

namespace veomni {

struct RunRanksOptions {
  /// How long a collective waits for the others.
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
  /// OpenMP threads of each rank; 0: the hardware's threads divided by the ranks, at least 1.
  int threads_per_rank = 0;
  /// How a rank gets its communicator, called by its own thread; default: backend `local`.
  std::function<std::shared_ptr<Communicator>(int rank)> join;
};

/// Calls body(comm) on `size` threads and returns when all have ended. Each has its RankScope and
/// OpenMP thread count.
///
/// The first failure aborts the other ranks and is rethrown here with its rank in front:
/// ConfigError stays ConfigError, veomni::Error stays Error, any other exception becomes an Error.
/// Ranks that failed only because they were aborted are never the one reported. A rank that returns
/// while others wait for it is a failure of theirs.
void run_ranks(int size, const std::function<void(Communicator& comm)>& body,
               const RunRanksOptions& options = {});

}  // namespace veomni
