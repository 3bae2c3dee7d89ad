// SPDX-License-Identifier: Apache-2.0
/// The norm of all gradients together, over ranks, and the factor that keeps it in bounds.
#pragma once

#include <vector>

#include "veomni/comm/communicator.h"
#include "veomni/nn/parameter.h"

namespace veomni::parallel {

/// |g|_2 over all elements of all gradients, each counted once, however each parameter is spread: of
/// sharded ones the first replica's parts are summed over `group` (all ranks of any part of the model),
/// whole ones are the same on every rank. Squares are accumulated in fp64 in an order that
/// does not depend on the number of threads. Parameters without a gradient count as zero. NaN or
/// infinity if any gradient holds one.
///
/// Every rank of `group` must call it with the same parameters; one small all_reduce.
double gradient_norm(const std::vector<nn::Parameter>& parameters, Communicator& group);

/// What the optimizer multiplies gradients by: min(1, max_norm / (norm + 1e-6)); 1 if max_norm is 0
/// (no clipping). NaN for a norm that is NaN. Pure.
double clip_coefficient(double norm, double max_norm);

}  // namespace veomni::parallel
