// SPDX-License-Identifier: Apache-2.0
/// From a model on `meta` to one with memory: allocate, initialise, load. One path for whole tensors and shards.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "veomni/io/safetensors_index.h"
#include "veomni/io/tensor_rule.h"
#include "veomni/nn/module.h"

namespace veomni::nn {

enum class Masters { kNone, kTrainable };

/// Allocates local() (and master() of trainable parameters) of every parameter on `device`; contents undefined.
/// A whole parameter's value() becomes local(); a sharded one's value() gets its full shape with freed storage.
void materialize(Module& root, torch::Device device, Masters masters);

/// Fills every parameter from its Init, keyed by (seed, name, index in the full tensor): equal in every layout.
/// @param only  parameters whose names are listed; empty: all
void initialize(Module& root, uint64_t seed, const std::vector<std::string>& only = {});

/// A part's parameters as the rules see them: names relative to `part`, full shapes.
std::vector<io::ParamShape> param_shapes(Module& part);

/// Reads a part's tensors from a safetensors index; each rank reads only the bytes of its shards. Dtypes are converted.
/// @param part   the module whose parameters the rules name (paths relative to it)
/// @param wanted  parameters (paths relative to the part) to be read; the others are left alone. None: all
/// @throws veomni::Error naming a tensor that is missing, left over or of another shape
void load_weights(Module& part, const io::RuleSet& rules, const io::SafetensorsIndex& index,
                  const std::function<bool(const std::string&)>& wanted = {});

}  // namespace veomni::nn
