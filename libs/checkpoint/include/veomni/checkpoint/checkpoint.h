// SPDX-License-Identifier: Apache-2.0
/// Training state on disk: complete or ignored, verified, independent of the layout that wrote it.
/// The bytes are described in docs/formats/checkpoint.md.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "veomni/comm/communicator.h"
#include "veomni/nn/module.h"
#include "veomni/optim/optimizer.h"

namespace veomni::checkpoint {

/// What is saved and restored: this rank's shards of the masters and of the optimizer's state.
struct TrainingState {
  nn::Module* model = nullptr;
  optim::Optimizer* optimizer = nullptr;
  nlohmann::json extra;  ///< loader position, schedule, kernel choices: small, equal on all ranks
};

/// Writes `<root>/step_00000100/` as `<root>/step_00000100.tmp`, syncs it and renames it. Collective.
/// @throws veomni::Error on every rank if one cannot write (a full disk): nothing is left behind, older checkpoints stay.
void save(const std::string& root, int64_t step, const TrainingState& state, Communicator& world);

/// The newest directory below `root` with a manifest that fits its files' sizes; none if there is none.
std::optional<std::string> newest(const std::string& root);

/// Restores masters, compute copies and optimizer state in place and returns `extra` with "step". Collective; any
/// number of ranks may read what any other number wrote.
/// @throws veomni::Error naming a file whose checksum is wrong, or a tensor that is missing or of another shape
nlohmann::json load(const std::string& directory, const TrainingState& state, Communicator& world);

/// Checks sizes and checksums of every file of a checkpoint directory. @throws veomni::Error naming the file
void verify(const std::string& directory);

/// Removes all but the newest `keep` checkpoints of `root` and what unfinished saves left. keep == 0: keeps all.
void prune(const std::string& root, int64_t keep);

}  // namespace veomni::checkpoint
