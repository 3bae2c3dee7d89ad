// SPDX-License-Identifier: Apache-2.0
/// From a recipe's `mesh` and `comm` to running ranks.
#pragma once

#include <functional>

#include "veomni/comm/device_mesh.h"
#include "veomni/train/recipe.h"

namespace veomni::train {

/// Starts the ranks a recipe asks for and runs `body` on each; returns when all have ended.
///
/// comm.backend "local": the ranks are threads of this process, as many as the mesh's axes multiply to.
/// "auto": one rank. A mesh of more, or a launcher's environment (mpirun, srun, torchrun) that says this process is
/// one of several, is refused: eight processes must not train eight models.
/// @throws ConfigError before any rank starts; what the first failing rank threw
void run_world(const MeshOptions& mesh, const CommOptions& comm,
               const std::function<void(DeviceMesh& mesh)>& body);

}  // namespace veomni::train
