// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "commands.h"
#include "overrides.h"
#include "veomni/train/forward.h"

namespace veomni::cli {

void add_forward(CLI::App& app) {
  auto options = std::make_shared<train::ForwardOptions>();
  auto* command = app.add_subcommand(
      "forward", "Runs a model once on tensors from a file: the tool that proves parity");
  command->add_option("MODEL_DIR", options->model_dir, "Hugging Face directory")->required();
  command
      ->add_option("IN", options->input_file,
                   "safetensors with input_ids [B, S] and what else the model takes")
      ->required();
  command->add_option("OUT", options->output_file, "safetensors to write: logits, loss, grad.NAME")
      ->required();
  command->add_flag("--grads", options->grads, "also the gradient of every tensor of MODEL_DIR");
  command->add_option("--dtype", options->dtype, "parameters and computation")
      ->check(CLI::IsMember({"float32", "float64", "bfloat16"}))
      ->capture_default_str();
  command->footer(
      "--mesh.AXIS=N with --comm.backend=local and --parallel.KEY=V run the sharded model, e.g.\n"
      "  veomni forward hf/Qwen3-0.6B in.safetensors out.safetensors --mesh.dp_shard=2 "
      "--comm.backend=local");
  allow_overrides(*command);
  command->callback([options, command] {
    YAML::Node root(YAML::NodeType::Map);
    for (const auto& change : overrides_of(*command)) set_by_path(root, change.path, change.value);
    read_fields({"command line"}, root, *options);
    train::run_forward(*options);
  });
}

}  // namespace veomni::cli
