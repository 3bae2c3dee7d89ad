// SPDX-License-Identifier: Apache-2.0
// Collectives of backend shm beside OpenMPI's own, and beside what as many processes that copy
// memory reach. Run by run.sh of this folder; every process is one rank.
//
// All contestants walk through a ring of buffers, so that each call touches memory that the last
// one has driven out of the caches, as in training; "warm" calls repeat on one.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "veomni/comm/shm.h"

namespace {

using veomni::Communicator;
using veomni::ReduceOp;
using Clock = std::chrono::steady_clock;

int rank = 0, size = 1;

int64_t last_level_cache() {
  const int64_t bytes = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? bytes : int64_t{32} << 20;
}

/// Inputs and outputs of one call; `whole` bytes are the larger side's.
struct Buffers {
  torch::Tensor small, large, in_small, in_large, out_small, out_large;
};

/// Enough of them that a turn touches twice the last-level cache.
std::vector<Buffers> make_ring(Communicator& comm, int64_t whole, torch::ScalarType dtype) {
  const int64_t numel = whole / static_cast<int64_t>(c10::elementSize(dtype)) / size * size;
  const int64_t turn = whole + whole / size;
  std::vector<Buffers> ring(static_cast<size_t>(2 * last_level_cache() / turn + 2));
  auto in_window = [&](int64_t n) {
    return veomni::empty_in_window(comm, {n}, dtype).fill_(rank + 1);
  };
  for (auto& b : ring) {
    b = {torch::full({numel / size}, rank + 1, dtype),
         torch::full({numel}, rank + 1, dtype),
         in_window(numel / size),
         in_window(numel),
         torch::zeros({numel / size}, dtype),
         torch::zeros({numel}, dtype)};
  }
  return ring;
}

struct Contestant {
  std::string operation, who;
  std::function<void(Buffers&)> call;
  std::vector<double> cold, warm;
};

/// Seconds of the slowest rank.
double time_of(const std::function<void()>& body) {
  MPI_Barrier(MPI_COMM_WORLD);
  const auto begin = Clock::now();
  body();
  double mine = std::chrono::duration<double>(Clock::now() - begin).count(), slowest = 0;
  MPI_Allreduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return slowest;
}

/// Contestants take turns, so that what slows the host down slows all of them.
void measure(std::vector<Contestant>& contestants, std::vector<Buffers>& ring, int rounds,
             int calls) {
  size_t place = 0;
  for (auto& c : contestants) c.call(ring[0]);
  for (int round = 0; round < rounds; ++round) {
    for (auto& c : contestants) {
      for (int i = 0; i < calls; ++i)
        c.cold.push_back(time_of([&] { c.call(ring[place++ % ring.size()]); }));
      c.call(ring[0]);
      for (int i = 0; i < calls; ++i) c.warm.push_back(time_of([&] { c.call(ring[0]); }));
    }
  }
}

double median(std::vector<double>& times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// Bytes a rank reads and writes at least: its inputs, its peers' that it gets, its outputs.
double traffic(const std::string& operation, double whole) {
  return operation == "reduce_scatter" ? whole + whole / size : 2 * whole;
}

std::vector<Contestant> contestants_of(Communicator& comm, int64_t whole, torch::ScalarType dtype) {
  const auto bytes = static_cast<int>(whole / size);
  const int64_t numel = bytes / static_cast<int64_t>(c10::elementSize(dtype));
  const std::vector<int64_t> rows(static_cast<size_t>(size), numel);
  const std::vector<int> counts(static_cast<size_t>(size), static_cast<int>(numel));
  std::vector<Contestant> all = {
      {"memcpy", "limit",
       [](Buffers& b) {
         std::memcpy(b.out_large.data_ptr(), b.large.data_ptr(), b.large.nbytes());
       }},
      {"all_gather", "shm", [&](Buffers& b) { comm.all_gather(b.out_large, b.small)->wait(); }},
      {"all_gather", "shm window",
       [&](Buffers& b) { comm.all_gather(b.out_large, b.in_small)->wait(); }},
      {"all_gather", "OpenMPI",
       [=](Buffers& b) {
         MPI_Allgather(b.small.data_ptr(), bytes, MPI_BYTE, b.out_large.data_ptr(), bytes, MPI_BYTE,
                       MPI_COMM_WORLD);
       }},
      {"reduce_scatter", "shm",
       [&](Buffers& b) { comm.reduce_scatter(b.out_small, b.large, ReduceOp::kSum)->wait(); }},
      {"reduce_scatter", "shm window",
       [&](Buffers& b) { comm.reduce_scatter(b.out_small, b.in_large, ReduceOp::kSum)->wait(); }},
      {"all_to_all", "shm",
       [&comm, rows](Buffers& b) { comm.all_to_all(b.out_large, b.large, rows, rows)->wait(); }},
      {"all_to_all", "shm window",
       [&comm, rows](Buffers& b) { comm.all_to_all(b.out_large, b.in_large, rows, rows)->wait(); }},
      {"all_to_all", "OpenMPI", [=](Buffers& b) {
         MPI_Alltoall(b.large.data_ptr(), bytes, MPI_BYTE, b.out_large.data_ptr(), bytes, MPI_BYTE,
                      MPI_COMM_WORLD);
       }}};
  // MPI knows no bf16: its bytes travel as they are, its sums are not to be had.
  if (dtype == torch::kFloat) {
    all.push_back({"reduce_scatter", "OpenMPI", [counts](Buffers& b) {
                     MPI_Reduce_scatter(b.large.data_ptr(), b.out_small.data_ptr(), counts.data(),
                                        MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
                   }});
  }
  return all;
}

void compare(Communicator& comm, int64_t whole, torch::ScalarType dtype) {
  auto ring = make_ring(comm, whole, dtype);
  auto contestants = contestants_of(comm, whole, dtype);
  const bool large = whole >= (int64_t{64} << 20);
  measure(contestants, ring, large ? 7 : 11, large ? 3 : 7);
  if (rank != 0) return;
  double limit[2] = {};
  for (auto& c : contestants) {
    const double seconds[] = {median(c.cold), median(c.warm)};
    double speed[2], share[2];
    for (int k : {0, 1}) {
      speed[k] = traffic(c.operation, static_cast<double>(whole)) / seconds[k];
      if (c.operation == "memcpy") limit[k] = speed[k];
      share[k] = speed[k] / limit[k];
    }
    std::printf(
        "| %-14s | %3lld MiB | %-8s | %d | %-10s | %8.3f ms | %6.2f GB/s | %4.2f | %8.3f ms | "
        "%4.2f |\n",
        c.operation.c_str(), static_cast<long long>(whole >> 20), c10::toString(dtype), size,
        c.who.c_str(), seconds[0] * 1e3, speed[0] / 1e9, share[0], seconds[1] * 1e3, share[1]);
  }
  std::fflush(stdout);
}

void latency(Communicator& comm) {
  auto x = torch::ones({1});
  float value = 1;
  std::vector<double> ours, theirs;
  for (int i = 0; i < 2001; ++i) {
    ours.push_back(time_of([&] { comm.all_reduce(x, x, ReduceOp::kMax)->wait(); }));
    theirs.push_back(time_of(
        [&] { MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_FLOAT, MPI_MAX, MPI_COMM_WORLD); }));
  }
  if (rank == 0)
    std::printf("all_reduce of one float, %d ranks: shm %.1f us, OpenMPI %.1f us\n", size,
                median(ours) * 1e6, median(theirs) * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int64_t job = ::getpid();
  MPI_Bcast(&job, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
  {
    auto comm = veomni::make_shm_world(
        {.name = "veomni_bench." + std::to_string(job), .rank = rank, .size = size});
    if (rank == 0) {
      std::printf(
          "ring of twice %lld MiB of last-level cache\n"
          "| operation      | size    | dtype    | n | who        |     cold    | read+written |"
          " of memcpy |    warm     | of memcpy |\n",
          static_cast<long long>(last_level_cache() >> 20));
    }
    for (int64_t mib : {1, 16, 64}) {
      for (auto dtype : {torch::kFloat, torch::kBFloat16}) compare(*comm, mib << 20, dtype);
    }
    latency(*comm);
  }
  MPI_Finalize();
}
