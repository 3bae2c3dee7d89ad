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
  command->add_option("--image", options->images,
                      "a picture every prompt begins with; several are read in turn");
  command->add_option("--audio", options->audios, "a sound every prompt begins with, likewise");
  command
      ->add_option("--output-modality", options->output_modality,
                   "what every answer begins with; image and audio are written to --out")
      ->check(CLI::IsMember({"text", "image", "audio"}))
      ->capture_default_str();
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
  auto& media = options->generate.media_sampling;
  command
      ->add_option("--media-temperature", media.temperature,
                   "as --temperature, for pictures and sound")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--media-top-p", media.top_p, "as --top-p, for pictures and sound")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command
      ->add_option("--guidance", options->generate.guidance,
                   "how far pictures follow the prompt beyond what was learned; 1: off")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "parameters and computation; auto: as saved")
      ->check(CLI::IsMember({"auto", "float32", "float64", "bfloat16"}))
      ->capture_default_str();
  command->add_option(
      "--out", options->out,
      "write {prompt, answer, token ids} as JSON lines instead of printing; or the picture");
  command->callback([options] { train::run_generate(*options); });
}

}  // namespace veomni::cli
