// SPDX-License-Identifier: Apache-2.0
/// A recipe: everything a job is, in one YAML file. Field by field in docs/recipe.md.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "veomni/base/fields.h"
#include "veomni/data/data_options.h"
#include "veomni/generate/generate.h"
#include "veomni/model/model_options.h"
#include "veomni/optim/optimizer.h"
#include "veomni/parallel/plan.h"

namespace veomni::train {

struct MeshOptions {
  int64_t dp_replicate = 1;
  int64_t dp_shard = 0;
  int64_t sp = 1;
  int64_t ep = 1;
};
template <typename Visitor> void visit_fields(Visitor& v, MeshOptions& o) {
  v("dp_replicate", o.dp_replicate, "data-parallel replicas of the sharded model", at_least(1));
  v("dp_shard", o.dp_shard, "ranks that share one copy of the model; 0: all that remain",
    at_least(0));
  v("sp", o.sp, "ranks that share a sequence (Ulysses)", at_least(1));
  v("ep", o.ep, "ranks that share the experts; folds out of dp_shard x sp", at_least(1));
}

struct CommOptions {
  std::string backend = "auto";
  double timeout_s = 600;

  std::chrono::milliseconds timeout() const {
    return std::chrono::milliseconds(static_cast<int64_t>(timeout_s * 1000));
  }
};
template <typename Visitor> void visit_fields(Visitor& v, CommOptions& o) {
  v("backend", o.backend,
    "how ranks talk; auto: as their launcher calls for; local: they are threads of this process; "
    "shm: shared memory of "
    "one host; mpi: MPI, and shared memory inside each host",
    one_of({"auto", "local", "shm", "mpi"}));
  v("timeout_s", o.timeout_s,
    "seconds after which a collective that has not completed ends the job", more_than(0));
}

struct OpsOptions {
  std::string linear = "auto";
};
template <typename Visitor> void visit_fields(Visitor& v, OpsOptions& o) {
  v("linear", o.linear, "who multiplies matrices on the CPU",
    one_of({"auto", "onednn", "blas", "own"}));
}

struct MemoryOptions {
  std::string allocator = "caching";
  std::string packed_weights = "auto";
};
template <typename Visitor> void visit_fields(Visitor& v, MemoryOptions& o) {
  v("allocator", o.allocator,
    "who gives tensors on the CPU their memory; caching: freed memory stays, in huge pages, for "
    "the next step; system: libtorch's own, which is malloc",
    one_of({"caching", "system"}));
  v("packed_weights", o.packed_weights,
    "whether weights keep the layout that own matrix kernels read until they change, up to twice "
    "their memory; auto: where a step has several micro-batches",
    one_of({"auto", "always", "never"}));
}

struct CodebookOptions {
  int64_t autoencoder_steps = 0;
  int64_t restart_every = 0;
  int64_t restart_until = 0;
};
template <typename Visitor> void visit_fields(Visitor& v, CodebookOptions& o) {
  v("autoencoder_steps", o.autoencoder_steps,
    "first steps without quantisation; then the codes begin as k-means centres of the latents",
    at_least(0));
  v("restart_every", o.restart_every,
    "steps between looks for codes that the batch does not use; they move to where latents are; "
    "0: never",
    at_least(0));
  v("restart_until", o.restart_until, "step from which codes are left where they are", at_least(0));
}

struct TrainOptions {
  int64_t steps = 0;
  int64_t micro_batch_tokens = 2048;
  int64_t accumulation = 1;
  int64_t seed = 0;
  bool deterministic = true;
  int64_t log_every = 0;
  std::map<std::string, double> loss_weights;
  CodebookOptions codebook;
};
template <typename Visitor> void visit_fields(Visitor& v, TrainOptions& o) {
  v("steps", o.steps, "optimizer steps; 0 builds the model, evaluates and exports it", at_least(0));
  v("micro_batch_tokens", o.micro_batch_tokens,
    "tokens a rank runs at once: samples are packed up to it", at_least(1));
  v("accumulation", o.accumulation, "micro-batches a rank and step", at_least(1));
  v("seed", o.seed, "seed of initialisation, shuffling and every other draw", at_least(0));
  v("deterministic", o.deterministic,
    "the same layout and thread count twice gives bit-equal losses");
  v("log_every", o.log_every, "steps between lines of a log file; 0: a line every ten seconds",
    at_least(0));
  v("loss_weights", o.loss_weights,
    "what each mean loss is multiplied with, by name: text (or data.sources[].loss) and the "
    "modalities of model.decoders; left out: 1");
  v("codebook", o.codebook, "how a decoder's tokenizer keeps its codes in use");
}

struct EvalSourceOptions {
  std::string name;
  std::string path;
  std::string format = "auto";
  std::vector<std::string> metrics = {"loss"};
  int64_t max_records = 0;
  int64_t repeat = 1;
  std::optional<generate::GenerateOptions> generate;
};
template <typename Visitor> void visit_fields(Visitor& v, EvalSourceOptions& o) {
  v("name", o.name, "prefix of its metrics: NAME_loss, NAME_bits_per_byte");
  v("path", o.path, "records, as in data.sources");
  v("format", o.format, "as in data.sources",
    one_of({"auto", "jsonl", "text_lines", "text_paragraphs"}));
  v("metrics", o.metrics,
    "loss (nats a token), perplexity, bits_per_byte, unigram_bits_per_byte (add-one, counted on "
    "data.sources); accuracy (free generation equals the assistant's text); generated, "
    "reconstructed (pictures or sounds of the assistant, written to <output>/pictures/NAME); "
    "mean_squared_error, code_perplexity (of a tokenizer on the assistant's media)",
    one_of({"loss", "perplexity", "bits_per_byte", "unigram_bits_per_byte", "accuracy", "generated",
            "reconstructed", "mean_squared_error", "code_perplexity"}));
  v("max_records", o.max_records, "stop after so many records; 0: all", at_least(0));
  v("repeat", o.repeat, "generated: items drawn for each record", at_least(1));
  v("generate", o.generate, "accuracy, generated: how, where it is not as in eval.generate");
}

struct EvalOptions {
  int64_t every = 0;
  std::vector<EvalSourceOptions> sources;
  std::vector<std::string> samples;
  generate::GenerateOptions generate;
};
template <typename Visitor> void visit_fields(Visitor& v, EvalOptions& o) {
  v("every", o.every, "steps between evaluations; 0: only at the end", at_least(0));
  v("sources", o.sources, "held-out data");
  v("samples", o.samples, "questions that are answered at the end and shown in the report");
  v("generate", o.generate, "how they are answered");
}

struct CheckpointOptions {
  int64_t every = 0;
  int64_t keep = 2;
  std::string resume = "auto";
  std::string hf_dtype = "auto";
};
template <typename Visitor> void visit_fields(Visitor& v, CheckpointOptions& o) {
  v("every", o.every, "steps between checkpoints; 0: only the Hugging Face directory at the end",
    at_least(0));
  v("keep", o.keep, "newest checkpoints kept; 0: all", at_least(0));
  v("resume", o.resume,
    "auto: go on from the newest complete checkpoint of `output`; never: refuse to touch one; "
    "or a step directory");
  v("hf_dtype", o.hf_dtype, "dtype of <output>/hf; auto: the compute dtype",
    one_of({"auto", "float32", "bfloat16", "float64"}));
}

struct Recipe {
  model::ModelOptions model;
  data::DataOptions data;
  MeshOptions mesh;
  parallel::ParallelOptions parallel;
  CommOptions comm;
  OpsOptions ops;
  MemoryOptions memory;
  optim::OptimOptions optim;
  TrainOptions train;
  EvalOptions eval;
  CheckpointOptions checkpoint;
  std::string output = "out";

  std::string file;  ///< where it came from, for messages; not a field
};
template <typename Visitor> void visit_fields(Visitor& v, Recipe& o) {
  v("model", o.model, "what is trained");
  v("data", o.data, "what it is trained on");
  v("mesh", o.mesh, "how the ranks are laid out");
  v("parallel", o.parallel, "how each part of the model is spread over them");
  v("comm", o.comm, "how they talk");
  v("ops", o.ops, "which kernels compute");
  v("memory", o.memory, "where tensors lie");
  v("optim", o.optim, "how it is optimised");
  v("train", o.train, "how long, in what portions");
  v("eval", o.eval, "how it is judged");
  v("checkpoint", o.checkpoint, "what is saved");
  v("output", o.output, "directory of everything the run writes");
}

/// A `--section.key=value` of the command line.
struct Override {
  std::string path, value;
};

/// Reads and checks a recipe. Everything wrong with it is a ConfigError with file, line, key and cure.
Recipe load_recipe(const std::string& file, const std::vector<Override>& overrides = {});

/// The recipe with every default filled in, as YAML text: `<output>/recipe.yaml`, the report, `--print-recipe`.
std::string resolved_recipe(const Recipe& recipe);

/// The reference table of docs/recipe.md, as Markdown.
std::string recipe_reference();

}  // namespace veomni::train
