// SPDX-License-Identifier: Apache-2.0
#include "veomni/train/train.h"

#include <ATen/Context.h>
#include <fmt/format.h>

#include <filesystem>

#include "profile/profiler.h"
#include "run_directory.h"
#include "setup.h"
#include "veomni/base/error.h"
#include "veomni/base/log.h"
#include "veomni/checkpoint/checkpoint.h"
#include "veomni/checkpoint/hf_export.h"
#include "veomni/data/eval_stream.h"
#include "veomni/io/output_file.h"
#include "veomni/nn/dtype.h"
#include "veomni/parallel/fully_shard.h"
#include "veomni/train/evaluate.h"
#include "veomni/train/trainer.h"
#include "veomni/train/world.h"

namespace veomni::train {

namespace fs = std::filesystem;

namespace {

// The checkpoint to go on from, or none. The same on every rank: all look at the same directory.
std::optional<std::string> find_resume(const Recipe& recipe) {
  const auto newest = checkpoint::newest(checkpoint_root(recipe));
  if (recipe.checkpoint.resume == "auto") return newest;
  if (recipe.checkpoint.resume == "never") {
    VEOMNI_CHECK_CONFIG(!newest, recipe.output, " already holds a run (", *newest,
                        "); choose another output, remove it, or set checkpoint.resume: auto");
    return std::nullopt;
  }
  VEOMNI_CHECK_CONFIG(fs::is_directory(recipe.checkpoint.resume),
                      "checkpoint.resume: no such directory: ", recipe.checkpoint.resume);
  return recipe.checkpoint.resume;
}

std::vector<std::string> tokenizer_files(const Recipe& recipe) {
  std::vector<std::string> files;
  const fs::path path = tokenizer_path(recipe);
  const fs::path directory = fs::is_directory(path) ? path : path.parent_path();
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json",
                           "chat_template.jinja"}) {
    if (fs::is_regular_file(directory / name)) files.push_back((directory / name).string());
  }
  return files;
}

// What `veomni forward` finds a modality's tokens by.
void add_placeholder_ids(const Recipe& recipe, const data::Tokenizer& tokenizer,
                         nlohmann::json& config) {
  for (const auto& [modality, tokens] :
       {std::pair{"image", recipe.data.media.image}, {"audio", recipe.data.media.audio}}) {
    if (const auto id = tokenizer.token_to_id(tokens.pad))
      config[std::string(modality) + "_token_id"] = *id;
  }
}

void export_model(const Recipe& recipe, model::OmniModel& model, const data::Tokenizer& tokenizer,
                  Communicator& world) {
  const std::string& word = recipe.checkpoint.hf_dtype;
  const auto dtype = word == "auto" ? compute_dtype(recipe.parallel) : nn::parse_dtype(word);
  std::vector<checkpoint::HfFolder> folders;
  for (auto& folder : model::saved_layout(model, recipe.model)) {
    const bool is_top = folder.directory.empty();
    checkpoint::HfFolder out{folder.directory, folder.config, {}, folder.preprocessor, {}};
    if (is_top && !tokenizer.empty()) out.extra_files = tokenizer_files(recipe);
    for (auto& part : folder.parts) out.parts.push_back({part.module, part.rules});
    if (is_top && folder.parts.empty()) add_placeholder_ids(recipe, tokenizer, out.config);
    folders.push_back(std::move(out));
  }
  checkpoint::export_hf(hf_directory(recipe), folders, dtype, parallel::full_master, world);
}

// The evaluation and the report at the end of a run.
void conclude(const Recipe& recipe, const data::Tokenizer& tokenizer, Trainer& trainer,
              Evaluator& evaluator, RunDirectory* run, Communicator& world) {
  export_model(recipe, trainer.model(), tokenizer, world);
  const auto metrics = evaluator.metrics();
  const auto answers = evaluator.answers();
  if (!run) return;
  run->write_results(trainer.model(), metrics, answers, evaluator.exhibits());
  for (const auto& [name, value] : metrics) log::info("{:<36} {:.4f}", name, value);
  for (const auto& answer : answers) log::info("> {}\n  {}", answer.prompt, answer.answer);
  log::info(
      "{:.2f} TFLOP of training in {:.0f} s; {}/hf opens in transformers, {}/report.html in a "
      "browser",
      run->total_flops() / 1e12, run->total_seconds(), recipe.output, recipe.output);
}

std::unique_ptr<Profiler> make_profiler(const Recipe& recipe, const TrainFlags& flags,
                                        Trainer& trainer, Communicator& world) {
  if (!flags.profile) return nullptr;
  const auto steps =
      steps_to_profile(flags.profile_steps, trainer.steps_done(), recipe.train.steps);
  if (!steps) {
    log::info("--profile: no step is left to profile");
    return nullptr;
  }
  return std::make_unique<Profiler>(trainer.model(), *steps, recipe.output + "/profile", world);
}

void train_on_rank(const Recipe& recipe, const TrainFlags& flags, const data::Tokenizer& tokenizer,
                   const std::optional<std::string>& resume, DeviceMesh& mesh) {
  Communicator& world = *mesh.communicator("world");
  Trainer trainer(recipe, mesh, tokenizer);
  Evaluator evaluator(recipe, tokenizer, data_parallel(mesh), trainer.model(), recipe.output);
  if (resume) {
    trainer.restore(*resume);
    log::info("resumed from {}", *resume);
  }
  const auto profiler = make_profiler(recipe, flags, trainer, world);
  std::unique_ptr<RunDirectory> run;
  if (world.rank() == 0) {
    fs::create_directories(recipe.output);
    run = std::make_unique<RunDirectory>(
        recipe, resume ? std::optional(trainer.steps_done()) : std::nullopt);
  }
  const auto due = [&](int64_t every) { return every > 0 && trainer.steps_done() % every == 0; };
  while (trainer.steps_done() < recipe.train.steps) {
    if (profiler) profiler->begin_step(trainer.steps_done() + 1);
    Timer timer;
    const StepResult result = trainer.step();
    const double step_ms = timer.elapsed_ms();
    if (profiler) profiler->end_step();
    const bool last = trainer.steps_done() == recipe.train.steps;
    std::map<std::string, double> evaluation;
    if (due(recipe.eval.every) && !last) evaluation = evaluator.metrics(EvalDepth::kLosses);
    if (run) run->add_step(result, trainer.steps_done(), step_ms, evaluation);
    if (due(recipe.checkpoint.every)) {
      trainer.save(checkpoint_root(recipe));
      if (world.rank() == 0) checkpoint::prune(checkpoint_root(recipe), recipe.checkpoint.keep);
    }
  }
  if (run) run->finish();
  if (profiler) profiler->finish();
  conclude(recipe, tokenizer, trainer, evaluator, run.get(), world);
}

void check_data(const Recipe& recipe, const data::Tokenizer& tokenizer) {
  data::LoaderPlan plan;
  plan.micro_batch_tokens = recipe.train.micro_batch_tokens;
  const auto model =
      model::build_model(recipe.model, {torch::kMeta, compute_dtype(recipe.parallel)});
  data::EvalStream stream(recipe.data, plan, tokenizer, 0, make_processors(*model, recipe.model));
  int64_t micro_batches = 0;
  while (stream.next()) ++micro_batches;
  fmt::print("{:<20} {:>10} {:>10} {:>12} {:>8} {:>10}\n", "source", "records", "samples", "tokens",
             "bad", "truncated");
  for (const auto& c : stream.counts()) {
    fmt::print("{:<20} {:>10} {:>10} {:>12} {:>8} {:>10}\n", c.name, c.records, c.samples, c.tokens,
               c.bad, c.truncated);
  }
  fmt::print("{} micro-batches of at most {} tokens\n", micro_batches, plan.micro_batch_tokens);
}

// Ranks compare what decides their collectives: a profile makes some of its own.
WorldOptions world_of(const Recipe& recipe, const TrainFlags& flags = {}) {
  std::string job = resolved_recipe(recipe);
  if (flags.profile) job += "\n--profile";
  if (flags.profile_steps)
    job += fmt::format(" {}..{}", flags.profile_steps->first, flags.profile_steps->last);
  return {recipe.mesh, recipe.comm, job, recipe.output + "/flight"};
}

void set_determinism(const Recipe& recipe) {
  auto& context = at::globalContext();
  context.setDeterministicAlgorithms(recipe.train.deterministic, /*warn_only=*/false);
  // With them libtorch fills every new tensor with NaNs, which is a check rather than a need, and took 6 % of a step. The
  // ops' tests have it on.
  context.setDeterministicFillUninitializedMemory(false);
}

}  // namespace

void run_train(const Recipe& recipe, const TrainFlags& flags) {
  apply_memory(recipe.memory);
  apply_ops(recipe.ops);
  set_determinism(recipe);
  if (flags.print_plan) {
    run_world(world_of(recipe), [&](DeviceMesh& mesh) {
      const auto ready = plan_model(recipe.model, recipe.parallel, mesh);
      if (mesh.communicator("world")->rank() == 0) {
        fmt::print("{}", ready.parallel.plan.describe());
      }
    });
    return;
  }
  const auto tokenizer = open_tokenizer(recipe);
  if (flags.check_data) return check_data(recipe, tokenizer);
  if (flags.profile) steps_to_profile(flags.profile_steps, 0, recipe.train.steps);
  const auto resume = find_resume(recipe);
  run_world(world_of(recipe, flags),
            [&](DeviceMesh& mesh) { train_on_rank(recipe, flags, tokenizer, resume, mesh); });
}

namespace {

// A recipe's model with the weights of a step directory or a Hugging Face one.
ReadyModel load_for_eval(const Recipe& recipe, const std::string& directory, DeviceMesh& mesh) {
  if (fs::is_regular_file(directory + "/config.json")) {
    return ready_model(model::options_of_directory(directory), recipe.parallel, mesh,
                       nn::Masters::kNone, 0);
  }
  auto ready = plan_model(recipe.model, recipe.parallel, mesh);
  nn::materialize(*ready.model, torch::kCPU, nn::Masters::kNone);
  checkpoint::load(directory, {ready.model.get(), nullptr, {}}, *mesh.communicator("world"));
  return ready;
}

}  // namespace

void run_eval(const Recipe& recipe, const std::string& directory, const std::string& out) {
  apply_memory(recipe.memory);
  apply_ops(recipe.ops);
  set_determinism(recipe);
  VEOMNI_CHECK_CONFIG(fs::is_directory(directory), "--checkpoint: no such directory: ", directory);
  const auto tokenizer = open_tokenizer(recipe);
  run_world(world_of(recipe), [&](DeviceMesh& mesh) {
    auto ready = load_for_eval(recipe, directory, mesh);
    const std::string beside = out.empty() ? "" : fs::absolute(out).parent_path().string();
    Evaluator evaluator(recipe, tokenizer, data_parallel(mesh), *ready.model, beside);
    const auto metrics = evaluator.metrics();
    const auto answers = evaluator.answers();
    if (mesh.communicator("world")->rank() != 0) return;
    for (const auto& [name, value] : metrics) fmt::print("{:<36} {:.4f}\n", name, value);
    for (const auto& answer : answers) fmt::print("> {}\n  {}\n", answer.prompt, answer.answer);
    if (!out.empty()) io::write_file(out, evaluation_json(metrics, answers));
  });
}

}  // namespace veomni::train
