// SPDX-License-Identifier: Apache-2.0
// The command line. Exit codes: 0 done, 1 something failed, 2 the user's mistake, found before any work.
#include <c10/util/Exception.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>

#include "commands.h"
#include "veomni/base/error.h"
#include "veomni/comm/communicator.h"
#include "veomni/comm/launch.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app("Trains models of any modality from a recipe.", "veomni");
  app.set_version_flag("--version", VEOMNI_VERSION);
  app.require_subcommand(1);
  app.footer(
      "`veomni COMMAND --help` explains a command; docs/recipe.md lists every key of a recipe.");
  veomni::cli::add_train(app);
  veomni::cli::add_forward(app);
  veomni::cli::add_generate(app);
  veomni::cli::add_eval(app);
  veomni::cli::add_models(app);
  veomni::cli::add_data(app);
  veomni::cli::add_docs(app);
  int exit_code = 0;
  veomni::cli::add_launch(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Help and version are "errors" of code 0 to the parser.
    return app.exit(error) == 0 ? 0 : 2;
  }
  return exit_code;
}

// Of several ranks the first says what all have met: a wrong recipe, or the end of the job by another's failure.
void say_once(const std::exception& error) {
  if (veomni::claimed_rank(veomni::process_environment) == 0)
    std::fprintf(stderr, "veomni: %s\n", error.what());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const veomni::ConfigError& error) {
    say_once(error);
    return 2;
  } catch (const veomni::AbortedError& error) {
    say_once(error);
    return 1;
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "veomni: %s\n", error.what_without_backtrace());
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "veomni: %s\n", error.what());
    return 1;
  }
}
