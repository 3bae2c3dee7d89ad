// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>

#include "commands.h"
#include "veomni/base/names.h"
#include "veomni/model/registration.h"

namespace veomni::cli {

void add_models(CLI::App& app) {
  auto* command =
      app.add_subcommand("models", "Lists the encoders, foundations and decoders of this build");
  command->callback([] {
    for (const auto& entry : model::registered_models()) {
      fmt::print("{:<12} {:<20} {}\n{:<33} architectures: {}\n", entry.kind, entry.model_type,
                 entry.summary, "", join(entry.architectures));
    }
  });
}

}  // namespace veomni::cli
