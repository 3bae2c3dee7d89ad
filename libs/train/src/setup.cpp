// SPDX-License-Identifier: Apache-2.0
#include "setup.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <filesystem>

#include "veomni/base/error.h"
#include "veomni/nn/dtype.h"
#include "veomni/ops/caching_allocator.h"
#include "veomni/ops/linear.h"

namespace veomni::train {

torch::ScalarType compute_dtype(const parallel::ParallelOptions& options) {
  const std::string& word = options.defaults.param_dtype;
  return nn::parse_dtype(word.empty() ? kDefaultDtype : word);
}

ReadyModel plan_model(const model::ModelOptions& options, const parallel::ParallelOptions& parallel,
                      DeviceMesh& mesh) {
  ReadyModel ready;
  ready.model = model::build_model(options, {torch::kMeta, compute_dtype(parallel)});
  ready.parallel = parallel::parallelize(*ready.model, mesh, parallel);
  return ready;
}

ReadyModel ready_model(const model::ModelOptions& options,
                       const parallel::ParallelOptions& parallel, DeviceMesh& mesh,
                       nn::Masters masters, uint64_t seed) {
  auto ready = plan_model(options, parallel, mesh);
  nn::materialize(*ready.model, torch::kCPU, masters);
  model::fill_weights(*ready.model, options, seed);
  return ready;
}

data::MediaProcessors make_processors(model::OmniModel& model, const model::ModelOptions& given) {
  const auto options = model::resolve(given);
  data::MediaProcessors processors;
  for (const auto& [modality, encoder] : model.encoders()) {
    processors.inputs[modality] =
        encoder->make_processor(model::preprocessor_config(options.encoders.at(modality)));
  }
  for (const auto& [modality, decoder] : model.decoders()) {
    processors.targets[modality] =
        decoder->make_processor(model::preprocessor_config(options.decoders.at(modality)));
  }
  processors.only_targets = !model.has_foundation();
  return processors;
}

bool is_tokenizer_recipe(const Recipe& recipe) {
  const auto& part = recipe.model.foundation;
  return recipe.model.path.empty() && part.path.empty() &&
         (!part.config.IsDefined() || part.config.IsNull()) && !recipe.model.decoders.empty();
}

std::string tokenizer_path(const Recipe& recipe) {
  if (!recipe.data.tokenizer.empty()) return recipe.data.tokenizer;
  if (!recipe.model.path.empty() && recipe.model.foundation.path.empty()) return recipe.model.path;
  VEOMNI_CHECK_CONFIG(
      !recipe.model.foundation.path.empty(), recipe.file,
      ": data.tokenizer is empty and model.foundation has no directory; name a tokenizer.json");
  return recipe.model.foundation.path;
}

data::Tokenizer open_tokenizer(const Recipe& recipe) {
  if (is_tokenizer_recipe(recipe)) return {};
  return data::Tokenizer::from_file(tokenizer_path(recipe));
}

void check_vocabulary(const data::Tokenizer& tokenizer, int64_t vocab_size,
                      const std::string& where) {
  VEOMNI_CHECK_CONFIG(tokenizer.vocab_size() <= vocab_size, where, ": the tokenizer has ",
                      tokenizer.vocab_size(), " ids, the model's vocab_size is ", vocab_size,
                      "; raise vocab_size or choose its own tokenizer");
}

namespace {

/// As the caching allocator does for tensors. Decoded media are made in one thread and freed in another: from arenas of its
/// threads, trimmed whenever 128 KiB are free at their ends, a picture's rows would be faulted in again every step.
void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc allows
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}

}  // namespace

void apply_memory(const MemoryOptions& options) {
  ops::set_cpu_allocator(options.allocator);
  if (options.allocator == "caching") keep_freed_memory();
}

void apply_ops(const OpsOptions& options) { ops::set_linear_backend(options.linear); }

Communicator& data_parallel(DeviceMesh& mesh) {
  return *mesh.communicator("dp_replicate_dp_shard");
}

void sum_over_ranks(Communicator& ranks, const std::vector<double*>& values) {
  auto packed = torch::empty({static_cast<int64_t>(values.size())}, torch::kDouble);
  double* slot = packed.data_ptr<double>();
  for (size_t i = 0; i < values.size(); ++i) slot[i] = *values[i];
  ranks.all_reduce(packed, packed, ReduceOp::kSum)->wait();
  for (size_t i = 0; i < values.size(); ++i) *values[i] = slot[i];
}

}  // namespace veomni::train
