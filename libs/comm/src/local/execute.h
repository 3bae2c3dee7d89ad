// SPDX-License-Identifier: Apache-2.0
/// The moving of bytes between ranks that see each other's tensors.
#pragma once

#include <vector>

#include "call.h"

namespace veomni::local {

/// Writes what `rank` is responsible for; runs at the same time as the other ranks' parts, which
/// touch other bytes. calls[r] is rank r's.
void execute(const std::vector<Call>& calls, int rank);

}  // namespace veomni::local
