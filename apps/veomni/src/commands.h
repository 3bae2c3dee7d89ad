// SPDX-License-Identifier: Apache-2.0
/// The subcommands of `veomni`. Each adds itself to the application; its callback runs after parsing.
#pragma once

#include <CLI/CLI.hpp>

namespace veomni::cli {

void add_train(CLI::App& app);
void add_forward(CLI::App& app);
void add_generate(CLI::App& app);
void add_eval(CLI::App& app);
void add_models(CLI::App& app);
void add_data(CLI::App& app);
void add_data_features(CLI::App& data);  ///< below add_data's
void add_docs(CLI::App& app);
/// @param exit_code  receives what the ranks ended with
void add_launch(CLI::App& app, int& exit_code);

}  // namespace veomni::cli
