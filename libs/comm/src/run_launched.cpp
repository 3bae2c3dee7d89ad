// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/run_launched.h"

#include <exception>
#include <filesystem>

#include "labelled.h"
#include "veomni/base/error.h"
#include "veomni/base/log.h"
#include "veomni/comm/flight.h"
#include "veomni/comm/rank_scope.h"
#include "veomni/comm/shm.h"

namespace veomni {

namespace {

std::shared_ptr<Communicator> meet(const Launch& launch, const LaunchedOptions& options) {
  const bool by_mpi = launch.kind == Launch::Kind::kMpi;
  const std::string backend =
      options.backend == "auto" ? (by_mpi ? "mpi" : "shm") : options.backend;
  if (backend == "mpi") {
    VEOMNI_CHECK_CONFIG(by_mpi, "comm.backend: mpi needs ranks that mpirun or srun started, not ",
                        launch.by, "; set comm.backend: auto");
    throw_config_error("no MPI");
  }
  VEOMNI_CHECK_CONFIG(backend == "shm", "comm.backend: ", backend, ": ", launch.by, " started ",
                      launch.size, " processes, which need auto, shm or mpi");
  VEOMNI_CHECK_CONFIG(!by_mpi, "comm.backend: shm under ", launch.by,
                      ": set auto; shared memory is then used inside each host");
  return make_shm_world({launch.job, launch.rank, launch.size, options.timeout});
}

void write_flight_file(const LaunchedOptions& options, int rank) {
  if (options.flight_directory.empty()) return;
  // The failure that is being reported matters more than one in reporting it.
  std::error_code error;
  std::filesystem::create_directories(options.flight_directory, error);
  const std::string file = options.flight_directory + "/rank_" + std::to_string(rank) + ".txt";
  if (error || !write_flight(file.c_str(), rank))
    log::warn("the last collectives could not be written to {}", file);
}

}  // namespace

void run_launched(const Launch& launch, const LaunchedOptions& options,
                  const std::function<void(std::shared_ptr<Communicator> world)>& body) {
  RankScope scope(launch.rank, launch.size);
  std::shared_ptr<Communicator> world;
  try {
    world = meet(launch, options);
    body(world);
    world->barrier()->wait();
  } catch (...) {
    const auto error = std::current_exception();
    if (world) world->abort(message_of(error));
    write_flight_file(options, launch.rank);
    rethrow_labelled(error, launch.rank, launch.size);
  }
}

}  // namespace veomni
