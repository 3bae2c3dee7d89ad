// SPDX-License-Identifier: Apache-2.0
/// Runs a function as the one rank that this process is among several.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "veomni/comm/communicator.h"
#include "veomni/comm/launch.h"

namespace veomni {

struct LaunchedOptions {
  /// "shm": shared memory, one host; "mpi": MPI, and shared memory inside each host; "auto": what the launcher calls for.
  std::string backend = "auto";
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
  /// Where rank K's last collectives are written as rank_K.txt when the job fails; empty: nowhere.
  std::string flight_directory;
};

/// Meets the other ranks and calls body(world) on this thread, under its RankScope.
///
/// What body throws aborts the job on every rank and is rethrown here with the rank in front; so is a peer's death.
/// When body returns, this rank waits for the others to return too.
/// @throws ConfigError for a backend that this build lacks or that does not reach the launcher's ranks
void run_launched(const Launch& launch, const LaunchedOptions& options,
                  const std::function<void(std::shared_ptr<Communicator> world)>& body);

}  // namespace veomni
