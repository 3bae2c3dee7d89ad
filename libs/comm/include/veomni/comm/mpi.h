// SPDX-License-Identifier: Apache-2.0
/// Backends `mpi` and `hierarchical`: the ranks are processes that an MPI launcher (mpirun, srun)
/// started, on any number of hosts. CPU tensors only.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "veomni/comm/communicator.h"

namespace veomni {

/// Whether this build has MPI. Without it the makers below throw ConfigError.
bool has_mpi();

struct MpiOptions {
  /// Of collectives.
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
  /// How long to wait for the others to make their world. MPI_Init itself, in the first call of the
  /// process, waits as long as MPI does.
  std::chrono::milliseconds start_timeout = std::chrono::minutes(2);
};

/// The world of MPI_COMM_WORLD's ranks. Every rank calls it; it waits for all of them.
///
/// Bytes travel in point-to-point messages between each two ranks, tested for while the thread
/// gives way, so that aborts and time-outs always get through; reductions are ours, in rank order:
/// the bits of backend `local`. Each call costs every rank a small message to every other: within
/// a host prefer `shm`, and over hosts `hierarchical`. Calls progress in a thread of their own, as
/// with `shm`, and the same rule holds for ranks that share two groups.
///
/// A rank that was killed is noticed by the launcher, which ends the job, or at the time-out.
/// @throws ConfigError without MPI in the build
/// @throws veomni::Error if MPI cannot be started, or not with threads that take turns
std::shared_ptr<Communicator> make_mpi_world(const MpiOptions& options = {});

struct HierarchicalOptions {
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
  std::chrono::milliseconds start_timeout = std::chrono::minutes(2);
  /// Ranks that give the same text share memory; empty: the host's name.
  std::string host;
};

/// The same ranks; bytes go through shared memory (as with `shm`) inside a host and through MPI
/// between hosts, so that each byte crosses the network once per host instead of once per rank.
///
/// Reductions sum over the ranks of a host in rank order, then over hosts in order of their first
/// rank, all in accumulate_dtype: the same layout gives the same bits every time, but other bits
/// than `local`. all_to_all, and groups whose ranks are not spread evenly over hosts, use MPI for
/// all bytes. Gathers and reductions take scratch memory of twice the gathered tensors' size.
std::shared_ptr<Communicator> make_hierarchical_world(const HierarchicalOptions& options = {});

/// Ends MPI; waits for all ranks, which must all call it. To be called once, when the program is
/// about to end well and its worlds are gone. A rank that failed leaves it out and exits with a
/// code other than 0: the launcher then ends the others. Does nothing where MPI was not started.
void finalize_mpi();

}  // namespace veomni
