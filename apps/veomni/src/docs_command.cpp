// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "commands.h"
#include "veomni/train/recipe.h"

namespace veomni::cli {

void add_docs(CLI::App& app) {
  auto* command = app.add_subcommand("docs", "Prints reference pages made from the program itself");
  command->require_subcommand(1);
  command->add_subcommand("recipe", "Every key of a recipe with default and meaning, as Markdown")
      ->callback([] { std::fputs(train::recipe_reference().c_str(), stdout); });
}

}  // namespace veomni::cli
