// SPDX-License-Identifier: Apache-2.0
/// Keeps a unit's inputs instead of its activations and runs its forward again in backward.
#pragma once

#include "veomni/nn/unit.h"

namespace veomni::parallel {

/// Attaches an interceptor at Stage::kRecompute.
///
/// The second forward runs whole, with the same inputs, inside any sharding of the unit, so that
/// all ranks make the same calls. Inputs that need no gradient (integers, undefined ones) stay as
/// they are; outputs that depend on nothing that trains get no gradient. An output whose gradient
/// never came counts as zero.
///
/// Under grad mode every floating-point output of the unit requires grad. Inputs must not be
/// modified in place between forward and backward (an error then); randomness in the body must be
/// keyed (base/rng.h).
///
/// @throws veomni::Error if the unit recomputes already
void recompute_unit(nn::Unit& unit);

}  // namespace veomni::parallel
