// SPDX-License-Identifier: Apache-2.0
/// The one place where a model and its parallelism meet: build on meta, spread, allocate, fill.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "veomni/comm/device_mesh.h"
#include "veomni/data/media_processors.h"
#include "veomni/data/tokenizer.h"
#include "veomni/model/build.h"
#include "veomni/nn/materialize.h"
#include "veomni/parallel/plan.h"
#include "veomni/train/recipe.h"

namespace veomni::train {

/// What a recipe that names no dtype computes in; masters and gradients are float32 either way.
inline constexpr const char* kDefaultDtype = "bfloat16";
torch::ScalarType compute_dtype(const parallel::ParallelOptions& options);

struct ReadyModel {
  std::unique_ptr<model::OmniModel> model;
  parallel::Parallelized parallel;
};

/// On meta, spread over the mesh, without memory. Every rank makes the same call.
/// @param parallel  its param_dtype is the compute dtype; kDefaultDtype where it is empty
ReadyModel plan_model(const model::ModelOptions& options, const parallel::ParallelOptions& parallel,
                      DeviceMesh& mesh);

/// The above with memory and weights.
ReadyModel ready_model(const model::ModelOptions& options,
                       const parallel::ParallelOptions& parallel, DeviceMesh& mesh,
                       nn::Masters masters, uint64_t seed);

/// The recipe's tokenizer: data.tokenizer, else the one in the foundation's directory.
/// @throws ConfigError if neither is there, or it has more ids than the model's vocabulary
data::Tokenizer open_tokenizer(const Recipe& recipe);
std::string tokenizer_path(const Recipe& recipe);
void check_vocabulary(const data::Tokenizer& tokenizer, int64_t vocab_size,
                      const std::string& where);

/// What the loader needs of the model's encoders and decoders.
data::MediaProcessors make_processors(model::OmniModel& model, const model::ModelOptions& options);

/// Whether a recipe trains a decoder's tokenizer alone: there is no text, and no tokenizer for it.
bool is_tokenizer_recipe(const Recipe& recipe);

/// Chooses who gives tensors their memory, and with `caching` has malloc keep what is freed, up to 64 MiB at its end; once per
/// job, before any tensor and any rank.
void apply_memory(const MemoryOptions& options);

/// Chooses kernels and switches determinism on; once per job, before any op.
void apply_ops(const OpsOptions& options);

/// The ranks that share the data.
Communicator& data_parallel(DeviceMesh& mesh);

/// Replaces each value by its sum over the ranks, in one all-reduce. Collective: as many values on every rank.
void sum_over_ranks(Communicator& ranks, const std::vector<double*>& values);

}  // namespace veomni::train
