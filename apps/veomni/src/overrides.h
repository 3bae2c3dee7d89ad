// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <vector>

#include "veomni/train/recipe.h"

namespace veomni::cli {

/// Lets a subcommand take `--section.key=value` (or `--section.key value`) beside its own options.
void allow_overrides(CLI::App& command);

/// Those that were given. @throws ConfigError for anything else left on the command line, naming the nearest option
std::vector<train::Override> overrides_of(const CLI::App& command);

}  // namespace veomni::cli
