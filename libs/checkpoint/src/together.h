// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "veomni/comm/communicator.h"

namespace veomni::checkpoint {

/// Runs `action` on this rank; if any rank's failed, all throw. Returns when all are done. The action itself makes no
/// collective call.
void together(Communicator& world, const std::function<void()>& action);

}  // namespace veomni::checkpoint
