// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/launch.h"

#include <cstdlib>

#include "veomni/base/error.h"
#include "veomni/base/names.h"
#include "veomni/base/parse_number.h"

namespace veomni {

namespace {

constexpr const char* kRank = "VEOMNI_RANK";
constexpr const char* kSize = "VEOMNI_WORLD_SIZE";
constexpr const char* kJob = "VEOMNI_JOB";

constexpr const char* kWays =
    "start with `veomni launch -n N ...`, `mpirun -n N veomni ...`, `srun --mpi=pmix veomni ...` "
    "or torchrun on one host";

class Reader {
 public:
  explicit Reader(const Environment& environment) : environment_(environment) {}

  bool has(const char* name) const {
    const char* value = environment_(name);
    return value && *value;
  }
  std::string text(const char* name) const { return has(name) ? environment_(name) : ""; }

  int at_least(const char* name, int minimum) const {
    const auto value = parse_number<int>(text(name));
    VEOMNI_CHECK_CONFIG(value && *value >= minimum, "environment: ", name, "='", text(name),
                        "' is not a whole number of at least ", minimum, "; ", kWays);
    return *value;
  }

  Launch launch(Launch::Kind kind, const char* by, const char* rank, const char* size,
                std::string job) const {
    Launch launch{kind, by, at_least(rank, 0), at_least(size, 1), std::move(job)};
    VEOMNI_CHECK_CONFIG(launch.rank < launch.size, "environment: ", rank, "=", launch.rank,
                        " is not below ", size, "=", launch.size, "; ", kWays);
    return launch;
  }

 private:
  const Environment& environment_;
};

// All of a launcher's variables, or none.
bool all_or_none(const Reader& env, const char* by, const std::vector<const char*>& names) {
  std::vector<std::string> there, missing;
  for (const char* name : names) (env.has(name) ? there : missing).push_back(name);
  VEOMNI_CHECK_CONFIG(there.empty() || missing.empty(), "environment: of ", by, "'s variables ",
                      join(there), " is set and ", join(missing),
                      " is not; unset it to run alone, or ", kWays);
  return missing.empty();
}

Launch torchrun(const Reader& env) {
  const std::string address = env.text("MASTER_ADDR"), port = env.text("MASTER_PORT");
  auto launch = env.launch(Launch::Kind::kOneHost, "torchrun", "RANK", "WORLD_SIZE",
                           "torchrun-" + port + "-" + env.text("TORCHELASTIC_RUN_ID") + "-" +
                               env.text("TORCHELASTIC_RESTART_COUNT"));
  if (env.has("LOCAL_WORLD_SIZE")) {
    const int local = env.at_least("LOCAL_WORLD_SIZE", 1);
    VEOMNI_CHECK_CONFIG(local == launch.size, "torchrun started ", launch.size, " ranks of which ",
                        local,
                        " are on this host; between hosts this build talks by MPI: start with "
                        "`mpirun -n ",
                        launch.size, " veomni ...`");
  }
  return launch;
}

}  // namespace

const char* process_environment(const char* name) { return std::getenv(name); }

Launch detect_launch(const Environment& environment) {
  const Reader env(environment);
  if (all_or_none(env, "veomni launch", {kRank, kSize, kJob}))
    return env.launch(Launch::Kind::kOneHost, "veomni launch", kRank, kSize, env.text(kJob));
  const std::vector<const char*> torchruns = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"};
  if (env.has("OMPI_COMM_WORLD_SIZE")) {
    // Half of another launcher's is a mistake here too; an address alone is what clusters set for everybody.
    if (env.has("RANK") || env.has("WORLD_SIZE")) all_or_none(env, "torchrun", torchruns);
    return env.launch(Launch::Kind::kMpi, "mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                      "");
  }
  // RANK or WORLD_SIZE alone would be a rank that trains by itself, once for each that was meant to take part.
  if (all_or_none(env, "torchrun", torchruns)) return torchrun(env);
  if (env.has("SLURM_STEP_NUM_TASKS") && env.text("SLURM_STEP_NUM_TASKS") != "1") {
    VEOMNI_CHECK_CONFIG(env.has("PMIX_RANK"), "srun started ", env.text("SLURM_STEP_NUM_TASKS"),
                        " tasks without PMIx, so they cannot find each other: use srun --mpi=pmix");
    return env.launch(Launch::Kind::kMpi, "srun", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "");
  }
  VEOMNI_CHECK_CONFIG(!env.has("PMI_SIZE") || env.text("PMI_SIZE") == "1", "started as one of ",
                      env.text("PMI_SIZE"), " processes by a launcher that speaks PMI only; ",
                      kWays);
  return {};
}

int claimed_rank(const Environment& environment) {
  for (const char* name :
       {kRank, "OMPI_COMM_WORLD_RANK", "RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const auto rank = parse_number<int>(Reader(environment).text(name))) return *rank;
  }
  return 0;
}

std::vector<std::string> launch_variables(int rank, int size, const std::string& job) {
  return {std::string(kRank) + "=" + std::to_string(rank),
          std::string(kSize) + "=" + std::to_string(size), std::string(kJob) + "=" + job};
}

}  // namespace veomni
