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
    std::string profile_steps;
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
  command->add_flag("--profile", flags->train.profile,
                    "trace steps 5 to 7 and say where their time went, in <output>/profile");
  command->add_option("--profile-steps", flags->profile_steps, "other steps, as A..B")
      ->type_name("A..B");
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
    if (!flags->profile_steps.empty()) {
      flags->train.profile = true;
      flags->train.profile_steps = train::parse_steps(flags->profile_steps);
    }
    train::run_train(recipe, flags->train);
  });
}

}  // namespace veomni::cli
