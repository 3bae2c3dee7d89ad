// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "commands.h"
#include "overrides.h"
#include "veomni/train/train.h"

namespace veomni::cli {

void add_eval(CLI::App& app) {
  struct Flags {
    std::string recipe, checkpoint, out;
  };
  auto flags = std::make_shared<Flags>();
  auto* command = app.add_subcommand("eval", "Judges a saved model by a recipe's eval section");
  command
      ->add_option("RECIPE", flags->recipe,
                   "the recipe; only model, data, eval, mesh and parallel matter")
      ->required();
  command
      ->add_option("--checkpoint", flags->checkpoint,
                   "a step directory or a Hugging Face directory")
      ->required();
  command->add_option("--out", flags->out, "also write the table as JSON to this file");
  command->footer("Any key of the recipe can be set as --section.key=value.");
  allow_overrides(*command);
  command->callback([flags, command] {
    train::run_eval(train::load_recipe(flags->recipe, overrides_of(*command)), flags->checkpoint,
                    flags->out);
  });
}

}  // namespace veomni::cli
