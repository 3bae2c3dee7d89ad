// SPDX-License-Identifier: Apache-2.0
// Collectives of backend shm beside OpenMPI's own, and beside what two processes that copy memory
// reach. Run by run.sh of this folder; every process is one rank.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "veomni/comm/shm.h"

namespace {

using veomni::Communicator;
using veomni::ReduceOp;
using Clock = std::chrono::steady_clock;

int rank = 0, size = 1;

/// Seconds of the slowest rank, median over repetitions.
double median(const std::function<void()>& body, int repetitions) {
  std::vector<double> times;
  for (int i = -2; i < repetitions; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const auto begin = Clock::now();
    body();
    double mine = std::chrono::duration<double>(Clock::now() - begin).count(), slowest = 0;
    MPI_Allreduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (i >= 0) times.push_back(slowest);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// Buffers of one collective: `whole` bytes are the larger side's.
struct Buffers {
  torch::Tensor small, large, large_too;
  Buffers(int64_t whole, torch::ScalarType dtype) {
    const int64_t numel = whole / static_cast<int64_t>(c10::elementSize(dtype)) / size * size;
    small = torch::full({numel / size}, rank + 1, dtype);
    large = torch::full({numel}, rank + 1, dtype);
    large_too = torch::full({numel}, 0, dtype);
  }
};

/// Bytes a rank reads and writes at least: its inputs, its peers' that it gets, its outputs.
double traffic(const char* operation, double whole) {
  if (std::strcmp(operation, "reduce_scatter") == 0) return whole + whole / size;
  return 2 * whole;
}

void row(const char* operation, int64_t whole, torch::ScalarType dtype, const char* who,
         double seconds, double limit) {
  if (rank != 0) return;
  const double bytes = traffic(operation, static_cast<double>(whole));
  std::printf("| %-14s | %3lld MiB | %-8s | %d | %-10s | %8.3f ms | %6.2f GB/s | %4.2f |\n",
              operation, static_cast<long long>(whole >> 20), c10::toString(dtype), size, who,
              seconds * 1e3, bytes / seconds / 1e9, bytes / seconds / limit);
  std::fflush(stdout);
}

/// Bytes read and written a second and rank while all ranks copy `whole` bytes.
double copy_limit(int64_t whole, int repetitions) {
  std::vector<char> from(static_cast<size_t>(whole), 1), to(static_cast<size_t>(whole), 2);
  const double seconds =
      median([&] { std::memcpy(to.data(), from.data(), from.size()); }, repetitions);
  return 2.0 * static_cast<double>(whole) / seconds;
}

/// MPI knows no bf16: its bytes travel as they are, its sums are not to be had.
void compare(Communicator& comm, int64_t whole, torch::ScalarType dtype) {
  const int repetitions = whole >= (64 << 20) ? 9 : 25;
  Buffers b(whole, dtype);
  const int bytes = static_cast<int>(b.small.nbytes());
  const double limit = copy_limit(whole, repetitions);
  row("memcpy", whole, dtype, "limit", 2.0 * static_cast<double>(whole) / limit, limit);
  row("all_gather", whole, dtype, "shm",
      median([&] { comm.all_gather(b.large, b.small)->wait(); }, repetitions), limit);
  row("all_gather", whole, dtype, "OpenMPI",
      median(
          [&] {
            MPI_Allgather(b.small.data_ptr(), bytes, MPI_BYTE, b.large.data_ptr(), bytes, MPI_BYTE,
                          MPI_COMM_WORLD);
          },
          repetitions),
      limit);
  row("reduce_scatter", whole, dtype, "shm",
      median([&] { comm.reduce_scatter(b.small, b.large, ReduceOp::kSum)->wait(); }, repetitions),
      limit);
  if (dtype == torch::kFloat) {
    const std::vector<int> counts(static_cast<size_t>(size), static_cast<int>(b.small.numel()));
    row("reduce_scatter", whole, dtype, "OpenMPI",
        median(
            [&] {
              MPI_Reduce_scatter(b.large.data_ptr(), b.small.data_ptr(), counts.data(), MPI_FLOAT,
                                 MPI_SUM, MPI_COMM_WORLD);
            },
            repetitions),
        limit);
  }
  const std::vector<int64_t> rows(static_cast<size_t>(size), b.small.numel());
  row("all_to_all", whole, dtype, "shm",
      median([&] { comm.all_to_all(b.large_too, b.large, rows, rows)->wait(); }, repetitions),
      limit);
  row("all_to_all", whole, dtype, "OpenMPI",
      median(
          [&] {
            MPI_Alltoall(b.large.data_ptr(), bytes, MPI_BYTE, b.large_too.data_ptr(), bytes,
                         MPI_BYTE, MPI_COMM_WORLD);
          },
          repetitions),
      limit);
}

void latency(Communicator& comm) {
  auto x = torch::ones({1});
  const double ours = median([&] { comm.all_reduce(x, x, ReduceOp::kMax)->wait(); }, 2001);
  float value = 1;
  const double theirs = median(
      [&] { MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_FLOAT, MPI_MAX, MPI_COMM_WORLD); }, 2001);
  if (rank == 0)
    std::printf("all_reduce of one float, %d ranks: shm %.1f us, OpenMPI %.1f us\n", size,
                ours * 1e6, theirs * 1e6);
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
          "| operation      | size    | dtype    | n | who        |     time     |"
          " read+written | of memcpy |\n");
    }
    for (int64_t mib : {1, 16, 64}) {
      for (auto dtype : {torch::kFloat, torch::kBFloat16}) compare(*comm, mib << 20, dtype);
    }
    latency(*comm);
  }
  MPI_Finalize();
}
