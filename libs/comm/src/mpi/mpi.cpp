// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/mpi.h"

#include "mpi/runtime.h"
#include "mpi/transport.h"
#include "process/group.h"

namespace veomni {

bool has_mpi() { return true; }

std::shared_ptr<Communicator> make_mpi_world(const MpiOptions& options) {
  auto job = mpi::MpiJob::make(process::Clock::now() + options.start_timeout);
  std::vector<int> members(job->size());
  for (int r = 0; r < job->size(); ++r) members[r] = r;
  auto transport = std::make_shared<mpi::MpiTransport>(job, members, job->rank(), "world");
  return process::make_group_communicator(job, std::move(transport), options.timeout);
}

void finalize_mpi() {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  if (started && !ended) mpi::check_mpi(MPI_Finalize(), "MPI_Finalize");
}

}  // namespace veomni
