// SPDX-License-Identifier: Apache-2.0
/// Backend `shm`: the ranks are processes of one host. CPU tensors only.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "veomni/comm/communicator.h"

namespace veomni {

struct ShmOptions {
  /// Of this job alone, equal on its ranks: letters, digits, '_', '-', '.', at most 128. A start
  /// that was killed leaves /dev/shm/<name>…; after the start nothing is left, whatever happens.
  std::string name;
  int rank = 0;
  int size = 1;
  /// Of collectives.
  std::chrono::milliseconds timeout = std::chrono::minutes(10);
  /// How long to wait for the others to come.
  std::chrono::milliseconds start_timeout = std::chrono::minutes(2);
};

/// This rank's communicator of the world. Every rank calls it; it waits for all of them.
///
/// A rank's data passes through a window of its own in shared memory (4 slots of 64 KiB, more than
/// 5 ranks: 16 KiB a peer), from which the peers copy or reduce: 256 KiB a rank and group, whatever
/// the tensors' sizes. Inputs of 64 KiB and more that lie in window_allocator()'s memory are read by
/// the peers where they lie instead: memory of no fixed size, which is kept once freed, and of which
/// nothing is in /dev/shm. It needs ranks of one user and one pid namespace; without, one warning is
/// given and everything passes through the slots. Reductions sum in rank order, to the same bits as
/// backend `local`.
///
/// One thread of each process runs its calls in the order in which they were made, in all groups of
/// the world: they progress while the rank computes. Hence ranks that share two groups must call
/// these in one order. A wait runs the call itself if the thread has not begun.
///
/// A rank that dies, or destroys its communicators while others wait for it, fails these within a
/// tenth of a second, by name.
/// @throws ConfigError for a name or rank that cannot be
/// @throws veomni::Error naming the ranks that did not come in time; for a rank taken twice; when
///     /dev/shm is too small
std::shared_ptr<Communicator> make_shm_world(const ShmOptions& options);

}  // namespace veomni
