// SPDX-License-Identifier: Apache-2.0
/// A directory that `transformers.from_pretrained` opens, without a merge script.
#pragma once

#include <torch/types.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "veomni/comm/communicator.h"
#include "veomni/io/tensor_rule.h"
#include "veomni/nn/module.h"

namespace veomni::checkpoint {

/// One part of a model and how its tensors are called in a Hugging Face directory.
struct HfPart {
  nn::Module* module = nullptr;
  io::RuleSet rules;
};

/// One Hugging Face directory.
struct HfFolder {
  std::string directory;        ///< below the model's; "": the model's own
  nlohmann::json config;        ///< config.json; its dtype is set to the weights'
  std::vector<HfPart> parts;    ///< all in its safetensors; none: a directory without weights
  nlohmann::json preprocessor;  ///< preprocessor_config.json; empty: none
  std::vector<std::string> extra_files;  ///< copied into it: tokenizer.json …
};

/// A parameter's full tensor, on every rank (parallel::full_master, parallel::full_gradient).
using GatherFull = std::function<torch::Tensor(const nn::Parameter&, Communicator&)>;

/// Calls `take(file_tensor_name, tensor)` on rank 0 for every file tensor of the part, in the file's names and shapes,
/// converted to `dtype`. Collective: ranks gather one parameter at a time.
void for_each_file_tensor(
    const HfPart& part, torch::ScalarType dtype, const GatherFull& gather, Communicator& world,
    const std::function<void(const std::string&, const torch::Tensor&)>& take);

/// Writes every folder's config.json, model.safetensors (or shards of at most 5 GB) and extra files.
/// Collective. The directory appears whole: it is written beside and renamed.
/// @throws veomni::Error on every rank if one cannot write
void export_hf(const std::string& directory, const std::vector<HfFolder>& folders,
               torch::ScalarType dtype, const GatherFull& gather, Communicator& world);

}  // namespace veomni::checkpoint
