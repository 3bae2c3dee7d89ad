// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "veomni/train/serve.h"

namespace veomni::cli {

void add_generate(CLI::App& app) {
  auto options = std::make_shared<train::ServeOptions>();
  auto* command = app.add_subcommand("generate", "Answers prompts with a saved model");
  command
      ->add_option("MODEL_DIR", options->model_dir, "Hugging Face directory with a tokenizer.json")
      ->required();
  command->add_option("--prompt", options->prompts, "a prompt; give it several times for a batch")
      ->required();
  command
      ->add_option("--template", options->chat_template,
                   "how the prompt is written; none: as it is")
      ->capture_default_str();
  command
      ->add_option("--max-new-tokens", options->generate.max_new_tokens, "longest answer in tokens")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  auto& sampling = options->generate.sampling;
  command
      ->add_option("--temperature", sampling.temperature,
                   "0: always the likeliest token; 1: the model's own distribution")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--top-p", sampling.top_p,
                   "draw from the likeliest tokens that together reach this probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "draw from this many likeliest tokens; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--seed", sampling.seed, "seed of the draws")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "parameters and computation; auto: as saved")
      ->check(CLI::IsMember({"auto", "float32", "float64", "bfloat16"}))
      ->capture_default_str();
  command->add_option("--out", options->out,
                      "write {prompt, answer, token ids} as JSON lines instead of printing");
  command->callback([options] { train::run_generate(*options); });
}

}  // namespace veomni::cli
