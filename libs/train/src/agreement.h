// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "veomni/comm/communicator.h"

namespace veomni::train {

/// Sees to it that all ranks run the same: build of this program, libtorch, and job (`job`: everything that decides what is
/// done, such as the resolved recipe). Call it first of all: ranks that differ would hang, or train nonsense.
///
/// Collective. Every rank throws the same.
/// @throws ConfigError naming the ranks that differ from rank 0, and in what
void check_agreement(Communicator& world, const std::string& job);

/// What tells one build of this program from another: the linker's build id, in hexadecimal.
std::string build_id();

}  // namespace veomni::train
