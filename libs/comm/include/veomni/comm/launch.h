// SPDX-License-Identifier: Apache-2.0
/// How this process was started: alone, or as one rank of several by `veomni launch`, torchrun, mpirun or srun.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace veomni {

struct Launch {
  enum class Kind {
    kAlone,
    kOneHost,  ///< all ranks on this host: they meet in shared memory, under the name `job`
    kMpi       ///< MPI_Init finds the others
  };
  Kind kind = Kind::kAlone;
  std::string by;  ///< "veomni launch", "torchrun", "mpirun", "srun"; for messages
  int rank = 0, size = 1;
  std::string job;  ///< kOneHost: unique among this host's jobs
};

/// The value of an environment variable; nullptr if it is not set.
using Environment = std::function<const char*(const char* name)>;
const char* process_environment(const char* name);

/// Variables read, in this order: `veomni launch`'s own, torchrun's (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), Open
/// MPI's, Slurm's with PMIx. Pure.
/// @throws ConfigError for a launcher's variables that are not all there, that are not numbers or do not fit together, and
///     for launchers that this build cannot follow (torchrun on several hosts, srun without PMIx)
Launch detect_launch(const Environment& environment);

/// The rank that a launcher's variables claim, however incomplete they are; 0 without any. For deciding who speaks when
/// detect_launch refuses.
int claimed_rank(const Environment& environment);

/// What `veomni launch` sets for rank `rank`: NAME=VALUE each.
std::vector<std::string> launch_variables(int rank, int size, const std::string& job);

}  // namespace veomni
