// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <memory>

#include "commands.h"
#include "overrides.h"
#include "veomni/train/train.h"

namespace veomni::cli {

void add_train(CLI::App& app) {
  struct Flags {
    std::string recipe;
    train::TrainFlags train;
    bool print_recipe = false;
  };
  auto flags = std::make_shared<Flags>();
  auto* command = app.add_subcommand(
      "train", "Trains what a recipe describes; goes on where an earlier run stopped");
  command->add_option("RECIPE", flags->recipe, "a YAML file; docs/recipe.md lists its keys")
      ->required();
  command->add_flag("--print-plan", flags->train.print_plan,
                    "show how each module is spread over the ranks, and stop");
  command->add_flag("--print-recipe", flags->print_recipe,
                    "show the recipe with every default filled in, and stop");
  command->add_flag("--check-data", flags->train.check_data,
                    "read and tokenize one pass of every source, report, and stop");
  command->footer(
      "Any key of the recipe can be set as --section.key=value, e.g. --optim.lr=1e-3 "
      "--train.steps=100.");
  allow_overrides(*command);
  command->callback([flags, command] {
    const auto recipe = train::load_recipe(flags->recipe, overrides_of(*command));
    if (flags->print_recipe) {
      std::fputs(train::resolved_recipe(recipe).c_str(), stdout);
      return;
    }
    train::run_train(recipe, flags->train);
  });
}

}  // namespace veomni::cli
