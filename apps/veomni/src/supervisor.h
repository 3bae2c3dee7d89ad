// SPDX-License-Identifier: Apache-2.0
/// Runs a program as several ranks on this host and sees to it that they end together.
#pragma once

#include <string>
#include <vector>

namespace veomni::cli {

struct SupervisorOptions {
  int ranks = 1;
  int max_restarts = 0;
  bool bind = true;  ///< each rank to its share of the cores
  std::vector<std::string> command;  ///< a program's path and its arguments
};

/// Starts the ranks, each with the variables of comm/launch.h and, unless OMP_NUM_THREADS is set, this host's cores shared
/// out among them, and waits for all. Output goes where this process's goes.
///
/// When one fails, the others get a few seconds to notice and to say what they were doing, then SIGTERM, then SIGKILL.
/// After a failure that is not the user's mistake (code 2) all start again, at most max_restarts times. SIGINT and SIGTERM
/// end the ranks likewise, without a restart. If this process dies, the ranks are killed.
///
/// Returns 0 if all ranks ended well, otherwise the code of the first that did not (128 + the signal that killed it); on
/// standard error stands which rank that was.
int supervise(const SupervisorOptions& options);

}  // namespace veomni::cli
