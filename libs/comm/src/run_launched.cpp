// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/run_launched.h"

#include <signal.h>
#include <sys/stat.h>

#include <array>
#include <exception>
#include <filesystem>
#include <thread>

#include "labelled.h"
#include "veomni/base/error.h"
#include "veomni/base/log.h"
#include "veomni/comm/flight.h"
#include "veomni/comm/mpi.h"
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
    const char* host = process_environment("VEOMNI_HOST");
    return make_hierarchical_world({.timeout = options.timeout, .host = host ? host : ""});
  }
  VEOMNI_CHECK_CONFIG(backend == "shm", "comm.backend: ", backend, ": ", launch.by, " started ",
                      launch.size, " processes, which need auto, shm or mpi");
  VEOMNI_CHECK_CONFIG(!by_mpi, "comm.backend: shm under ", launch.by,
                      ": set auto; shared memory is then used inside each host");
  return make_shm_world({launch.job, launch.rank, launch.size, options.timeout});
}

// Writes the rank's last collectives when the job fails: an exception here, or a signal. Launchers end the others of a
// rank that died by SIGTERM, about a second later; on another host that is the first they hear of it.
class FlightReport {
 public:
  FlightReport(const std::string& directory, int rank) : rank_(rank) {
    const std::string file = directory + "/rank_" + std::to_string(rank) + ".txt";
    if (directory.empty() || file.size() >= sizeof(file_)) return;
    directory.copy(directory_, sizeof(directory_) - 1);
    file.copy(file_, sizeof(file_) - 1);
    current = this;
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESETHAND;
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~FlightReport() {
    if (current != this) return;
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
    current = nullptr;
  }
  FlightReport(const FlightReport&) = delete;
  FlightReport& operator=(const FlightReport&) = delete;

  /// The failure that is being reported matters more than one in reporting it.
  void write() const {
    if (!*file_) return;
    std::error_code error;
    std::filesystem::create_directories(directory_, error);
    if (!write_flight(file_, rank_))
      log::warn("the last collectives could not be written to {}", file_);
  }

 private:
  static constexpr std::array kSignals = {SIGTERM, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

  // Only system calls that a handler may make; the signal then does what it always does.
  static void on_signal(int signal) {
    if (current) {
      mkdir(current->directory_, 0777);
      write_flight(current->file_, current->rank_);
    }
    raise(signal);
  }

  static FlightReport* current;
  int rank_;
  char directory_[4096] = "", file_[4096] = "";
  std::array<struct sigaction, kSignals.size()> before_{};
};
FlightReport* FlightReport::current = nullptr;

template <typename Kind> bool is_a(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Kind&) {
    return true;
  } catch (...) {
    return false;
  }
}

// mpirun and srun end all ranks as soon as one has ended badly. Rank 0 says what all have met, and may learn of it late,
// from another host: the others leave it this long.
constexpr std::chrono::milliseconds kForRank0ToSpeak{1000};

}  // namespace

void run_launched(const Launch& launch, const LaunchedOptions& options,
                  const std::function<void(std::shared_ptr<Communicator> world)>& body) {
  RankScope scope(launch.rank, launch.size);
  const FlightReport report(options.flight_directory, launch.rank);
  std::shared_ptr<Communicator> world;
  try {
    world = meet(launch, options);
    body(world);
    world->barrier()->wait();
    world.reset();
    if (launch.kind == Launch::Kind::kMpi) finalize_mpi();
  } catch (...) {
    const auto error = std::current_exception();
    if (world) world->abort(message_of(error));
    // A user's mistake was found before any work: collectives have nothing to do with it.
    if (!is_a<ConfigError>(error)) report.write();
    if (launch.kind == Launch::Kind::kMpi && launch.rank != 0 && is_a<AbortedError>(error))
      std::this_thread::sleep_for(kForRank0ToSpeak);
    rethrow_labelled(error, launch.rank, launch.size);
  }
}

}  // namespace veomni
