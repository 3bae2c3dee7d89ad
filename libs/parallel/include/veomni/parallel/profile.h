// SPDX-License-Identifier: Apache-2.0
/// Spans for a profile (base/trace.h) around what each Unit does.
#pragma once

#include "veomni/nn/module.h"

namespace veomni::parallel {

/// Attaches an interceptor at Stage::kProfile to every Unit of `root`'s tree: while trace::on(), a unit's forward and its
/// backward are spans of trace::Category::kUnit that include its gathers and reductions and the units inside it. (Recompute
/// marks itself.) A unit without a path is called "model".
///
/// While off it passes the call on, and the graph is what it is without. While on, values and gradients stay bit-equal.
///
/// @throws veomni::Error if a unit has a kProfile interceptor already
void profile_units(nn::Module& root);

}  // namespace veomni::parallel
