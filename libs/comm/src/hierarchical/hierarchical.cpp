// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "hierarchical/transport.h"
#include "process/group.h"
#include "veomni/comm/mpi.h"

namespace veomni {

namespace {

using hierarchical::HierarchicalJob;
using hierarchical::HierarchicalTransport;

/// What ranks tell each other at the start.
struct Residence {
  char host[248];
  int64_t process;
};

Residence own_residence(const std::string& host) {
  Residence mine{};
  mine.process = ::getpid();
  if (host.empty()) {
    ::gethostname(mine.host, sizeof mine.host - 1);
  } else {
    std::memcpy(mine.host, host.data(), std::min(host.size(), sizeof mine.host - 1));
  }
  return mine;
}

std::vector<Residence> gather_residences(mpi::MpiTransport& all, const Residence& mine,
                                         const process::Patience& patience) {
  std::vector<char> bytes(sizeof mine);
  std::memcpy(bytes.data(), &mine, sizeof mine);
  std::vector<std::vector<char>> gathered;
  all.exchange(
      bytes, gathered, [](int) {}, patience);
  std::vector<Residence> residences(gathered.size());
  for (size_t r = 0; r < gathered.size(); ++r)
    std::memcpy(&residences[r], gathered[r].data(), sizeof mine);
  return residences;
}

std::shared_ptr<Communicator> make_world(const HierarchicalOptions& options,
                                         const std::shared_ptr<mpi::MpiJob>& mpi,
                                         process::Clock::time_point deadline,
                                         const process::Patience& patience) {
  std::vector<int> members(mpi->size());
  std::iota(members.begin(), members.end(), 0);
  mpi::MpiTransport all(mpi, members, mpi->rank(), "start");
  const auto residences = gather_residences(all, own_residence(options.host), patience);
  auto hosts = std::make_shared<std::vector<int>>();  // the first rank of each rank's host
  for (const auto& residence : residences) {
    const auto first = std::find_if(residences.begin(), residences.end(), [&](const auto& other) {
      return std::strcmp(other.host, residence.host) == 0;
    });
    hosts->push_back(static_cast<int>(first - residences.begin()));
  }
  const int first = (*hosts)[mpi->rank()];
  std::vector<int> mates;
  for (int r : members) {
    if ((*hosts)[r] == first) mates.push_back(r);
  }
  const std::string name =
      detail::concat("veomni.mpi.", residences[first].process, ".", mpi->number());
  auto board = std::make_shared<shm::Board>(name, mpi->rank(), mpi->size(), mates, deadline);
  auto job = std::make_shared<HierarchicalJob>(mpi, board);
  auto transport =
      std::make_shared<HierarchicalTransport>(job, members, mpi->rank(), "world", hosts, patience);
  return process::make_group_communicator(job, std::move(transport), options.timeout);
}

}  // namespace

std::shared_ptr<Communicator> make_hierarchical_world(const HierarchicalOptions& options) {
  const auto deadline = process::Clock::now() + options.start_timeout;
  auto mpi = mpi::MpiJob::make(deadline);
  const std::atomic<int64_t> give_up(
      std::chrono::duration_cast<std::chrono::nanoseconds>(deadline.time_since_epoch()).count());
  const std::atomic<bool> stop(false);
  try {
    return make_world(options, mpi, deadline, process::Patience(*mpi, give_up, stop));
  } catch (const process::TimedOut&) {
    throw_error("the ranks did not all make their hierarchical world in time");
  } catch (const process::JobAborted&) {
    throw AbortedError(mpi->reason());
  } catch (const process::PeerGone& gone) {
    throw_error(detail::concat("rank ", gone.world_rank, " ", gone.how, " at the start"));
  }
}

}  // namespace veomni
