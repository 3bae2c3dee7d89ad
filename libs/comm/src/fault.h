// SPDX-License-Identifier: Apache-2.0
/// Where backends ask for faults.
#pragma once

#include <functional>
#include <optional>

#include "veomni/comm/fault.h"

namespace veomni {

/// @throws ConfigError if VEOMNI_FAULT cannot be read
void read_fault_environment();

/// What call number `seq` of `rank` shall suffer at this point. Cheap without faults.
std::optional<FaultKind> fault_at(int rank, int64_t seq, bool inside);

/// Kills this process, or returns once `aborted`.
void suffer(FaultKind kind, const std::function<bool()>& aborted);

}  // namespace veomni
