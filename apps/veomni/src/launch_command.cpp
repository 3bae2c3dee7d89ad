// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <array>
#include <memory>

#include "commands.h"
#include "supervisor.h"
#include "veomni/base/error.h"
#include "veomni/base/names.h"
#include "veomni/comm/launch.h"

namespace veomni::cli {

namespace {

const std::vector<std::string> kCommands = {"train", "eval", "forward"};

// This program, whatever it is called and wherever it lies.
std::string own_path() {
  std::array<char, 4096> path{};
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (size <= 0) throw Error("/proc/self/exe cannot be read, so the ranks cannot be started");
  return std::string(path.data(), static_cast<size_t>(size));
}

}  // namespace

void add_launch(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<SupervisorOptions>();
  auto* command =
      app.add_subcommand("launch", "Runs a command as several ranks (processes) on this host");
  command->prefix_command();
  command->add_option("-n", options->ranks, "how many ranks")
      ->required()
      ->check(CLI::Range(1, 4096));
  command
      ->add_option("--max-restarts", options->max_restarts,
                   "how often all ranks are started again after one failed; training then goes on "
                   "from its newest checkpoint")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("!--no-bind", options->bind,
                    "do not bind each rank to its share of the cores");
  command->footer(
      "COMMAND is train, eval or forward, e.g. `veomni launch -n 4 train recipe.yaml`. Between "
      "hosts: `mpirun -n N veomni train recipe.yaml`, or srun --mpi=pmix.");
  command->callback([options, command, &exit_code] {
    const auto words = command->remaining();
    VEOMNI_CHECK_CONFIG(!words.empty() && std::find(kCommands.begin(), kCommands.end(), words[0]) !=
                                              kCommands.end(),
                        "veomni launch: ",
                        words.empty() ? "no command" : "'" + words[0] + "' does not run on ranks",
                        "; give one of ", join(kCommands));
    VEOMNI_CHECK_CONFIG(detect_launch(process_environment).kind == Launch::Kind::kAlone,
                        "veomni launch: started by a launcher already; start `veomni ", words[0],
                        "` by it, or unset its variables");
    options->command = {own_path()};
    options->command.insert(options->command.end(), words.begin(), words.end());
    exit_code = supervise(*options);
  });
}

}  // namespace veomni::cli
