// SPDX-License-Identifier: Apache-2.0
/// From a recipe's `mesh` and `comm` to running ranks.
#pragma once

#include <functional>
#include <string>

#include "veomni/comm/device_mesh.h"
#include "veomni/train/recipe.h"

namespace veomni::train {

struct WorldOptions {
  MeshOptions mesh;
  CommOptions comm;
  /// All that decides what the ranks do, such as the resolved recipe: ranks that are processes compare it first.
  std::string job;
  /// Where ranks that are processes leave their last collectives (rank_K.txt) when the job fails; empty: nowhere.
  std::string flight_directory;
};

/// Runs `body` on the ranks a recipe asks for; returns when all have ended.
///
/// In a process that a launcher started as one of several (comm/launch.h): on this rank. Otherwise comm.backend decides:
/// "local", as many threads of this process as the mesh's axes multiply to; "auto", one rank, and a mesh of more is refused.
/// @throws ConfigError before any rank does anything; what body threw (of threads: the first failing rank)
void run_world(const WorldOptions& options, const std::function<void(DeviceMesh& mesh)>& body);

}  // namespace veomni::train
