// SPDX-License-Identifier: Apache-2.0
#include "supervisor.h"

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <optional>
#include <random>

#include "veomni/base/error.h"
#include "veomni/base/log.h"
#include "veomni/comm/launch.h"

namespace veomni::cli {

namespace {

using Clock = std::chrono::steady_clock;

// A rank notices a dead peer within about a second, and then writes down its last collectives.
constexpr auto kToNotice = std::chrono::seconds(8);
constexpr auto kToEnd = std::chrono::seconds(3);
constexpr int kUsersMistake = 2;

int exit_code(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string how_it_ended(int status) {
  if (!WIFSIGNALED(status)) return fmt::format("ended with code {}", WEXITSTATUS(status));
  const int signal = WTERMSIG(status);
  return fmt::format("was killed by signal {} ({})", signal, strsignal(signal));
}

std::vector<int> usable_cores() {
  cpu_set_t set;
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

// Rank `rank`'s share of the cores, neighbours; all of them where there are fewer cores than ranks.
cpu_set_t cores_of(const std::vector<int>& cores, int rank, int ranks) {
  const size_t all = cores.size();
  const bool few = all < static_cast<size_t>(ranks);
  const size_t begin = few ? 0 : all * rank / ranks, end = few ? all : all * (rank + 1) / ranks;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (size_t i = begin; i < end; ++i) CPU_SET(cores[i], &set);
  return set;
}

// Blocks the signals that end this process, and SIGCHLD, so that one call waits for all of them.
class SignalSet {
 public:
  SignalSet() {
    sigemptyset(&set_);
    for (int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&set_, signal);
    sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ~SignalSet() { restore(); }
  void restore() const { sigprocmask(SIG_SETMASK, &before_, nullptr); }

  // The next signal, or none before `deadline`.
  std::optional<int> wait(std::optional<Clock::time_point> deadline) const {
    using std::chrono::nanoseconds;
    constexpr nanoseconds kSecond = std::chrono::seconds(1);
    const nanoseconds left =
        deadline ? std::max(nanoseconds(0), nanoseconds(*deadline - Clock::now())) : kSecond;
    const timespec time{left / kSecond, (left % kSecond).count()};
    const int signal = sigtimedwait(&set_, nullptr, &time);
    return signal < 0 ? std::nullopt : std::optional(signal);
  }

 private:
  sigset_t set_, before_;
};

// The ranks of one attempt.
class Ranks {
 public:
  Ranks(const SupervisorOptions& options, const std::string& job, const SignalSet& signals) {
    const auto cores = usable_cores();
    const int threads = std::max(1, static_cast<int>(cores.size()) / options.ranks);
    for (int rank = 0; rank < options.ranks; ++rank)
      start(rank, options, launch_variables(rank, options.ranks, job), threads,
            cores_of(cores, rank, options.ranks), signals);
  }
  ~Ranks() { signal_all(SIGKILL); }

  bool empty() const { return running_.empty(); }
  /// Whether rank 0 ended with its user's mistake, and so has named it.
  bool first_spoke() const { return first_spoke_; }

  void signal_all(int signal) const {
    for (const auto& [pid, rank] : running_) kill(pid, signal);
  }

  struct Failure {
    int rank, status;
    pid_t pid;
  };
  // Takes in who has ended; the first that failed, a killed one before one that ended by itself.
  std::optional<Failure> reap() {
    std::optional<Failure> failure;
    int status = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      const auto found = running_.find(pid);
      if (found == running_.end()) continue;
      const bool failed = exit_code(status) != 0;
      if (found->second == 0) first_spoke_ = exit_code(status) == kUsersMistake;
      if (failed && (!failure || (WIFSIGNALED(status) && !WIFSIGNALED(failure->status))))
        failure = Failure{found->second, status, pid};
      running_.erase(found);
    }
    return failure;
  }

 private:
  void start(int rank, const SupervisorOptions& options, const std::vector<std::string>& variables,
             int threads, const cpu_set_t& cores, const SignalSet& signals) {
    // What the child needs is made before fork: after it only plain system calls are safe.
    std::vector<char*> arguments;
    for (const auto& word : options.command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const std::string omp = std::to_string(threads);
    const pid_t parent = getpid(), pid = fork();
    if (pid < 0) throw Error(fmt::format("rank {} does not start: {}", rank, strerror(errno)));
    if (pid > 0) {
      running_[pid] = rank;
      return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    signals.restore();
    // Two ranks on one core would wait for each other at every collective.
    if (options.bind) sched_setaffinity(0, sizeof(cores), &cores);
    for (const auto& pair : variables) putenv(const_cast<char*>(pair.c_str()));
    setenv("OMP_NUM_THREADS", omp.c_str(), /*overwrite=*/0);
    execv(arguments[0], arguments.data());
    fprintf(stderr, "veomni launch: %s does not start: %s\n", arguments[0], strerror(errno));
    _exit(127);
  }

  std::map<pid_t, int> running_;
  bool first_spoke_ = false;
};

// A name that no other job on this host has, also not one that died with the same process number.
std::string job_name(int attempt) {
  std::random_device random;
  return fmt::format("{}-{:08x}-{}", getpid(), random(), attempt);
}

struct Outcome {
  int code = 0;
  bool stopped = false;  ///< by a signal to this process
};

Outcome run_once(const SupervisorOptions& options, int attempt, const SignalSet& signals) {
  Ranks ranks(options, job_name(attempt), signals);
  Outcome outcome;
  std::optional<Clock::time_point> deadline;
  std::string first_failure;
  int next_signal = SIGTERM;
  const auto end_by = [&](Clock::duration time) {
    if (!deadline) deadline = Clock::now() + time;
  };
  while (true) {
    if (const auto failure = ranks.reap(); failure && outcome.code == 0) {
      outcome.code = exit_code(failure->status);
      first_failure = fmt::format("veomni launch: rank {} (process {}) {}", failure->rank,
                                  failure->pid, how_it_ended(failure->status));
      if (outcome.code != kUsersMistake) log::error("{}", first_failure);
      end_by(kToNotice);
    }
    if (ranks.empty()) {
      if (outcome.code == kUsersMistake && !ranks.first_spoke()) log::error("{}", first_failure);
      return outcome;
    }
    const auto signal = signals.wait(deadline);
    if (signal && *signal != SIGCHLD) {
      outcome = {outcome.code == 0 ? 128 + *signal : outcome.code, true};
      ranks.signal_all(SIGTERM);
      next_signal = SIGKILL;
      deadline = Clock::now() + kToEnd;
    } else if (deadline && Clock::now() >= *deadline) {
      ranks.signal_all(next_signal);
      next_signal = SIGKILL;
      deadline = Clock::now() + kToEnd;
    }
  }
}

}  // namespace

int supervise(const SupervisorOptions& options) {
  const SignalSet signals;
  for (int attempt = 0;; ++attempt) {
    const Outcome outcome = run_once(options, attempt, signals);
    if (outcome.code == 0 || outcome.stopped || outcome.code == kUsersMistake ||
        attempt == options.max_restarts)
      return outcome.code;
    log::warn("veomni launch: starting all ranks again, restart {} of {}", attempt + 1,
              options.max_restarts);
  }
}

}  // namespace veomni::cli
