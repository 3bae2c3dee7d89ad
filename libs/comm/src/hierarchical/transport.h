// SPDX-License-Identifier: Apache-2.0
/// A group over hosts: a transport inside the host, one across hosts, one over all.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hierarchical/job.h"
#include "mpi/transport.h"
#include "shm/transport.h"

namespace veomni::hierarchical {

/// The group's ranks as a grid. Host h's local rank l is group rank ranks[h][l]; hosts are in order
/// of their first rank.
struct Layout {
  std::vector<std::vector<int>> ranks;
  int host = 0, local = 0;  ///< of this rank

  int hosts() const { return static_cast<int>(ranks.size()); }
  int locals() const { return static_cast<int>(ranks[0].size()); }
  bool even() const;
};

/// host_of[r]: any number, equal for group ranks that share memory.
Layout layout_of(const std::vector<int>& host_of, int rank);

class HierarchicalTransport final : public process::Transport {
 public:
  /// world_hosts: by world rank. All members construct it at once: those of a host join a segment.
  HierarchicalTransport(std::shared_ptr<HierarchicalJob> job, std::vector<int> members, int rank,
                        const std::string& id, std::shared_ptr<const std::vector<int>> world_hosts,
                        const process::Patience& patience);

  const std::vector<Offer>& meet(int64_t sequence, const Offer& mine, const OnArrival& seen,
                                 process::Patience& patience) override;
  bool arrived(int rank, int64_t sequence) const override;
  void move(const Call& call, const std::vector<Offer>& offers,
            process::Patience& patience) override;
  std::shared_ptr<Transport> split(const std::vector<int>& places, const std::string& id,
                                   process::Patience& patience) override;
  c10::Allocator* window_allocator() override {
    return inside_ && !across_ ? inside_->window_allocator() : nullptr;
  }

 private:
  using Patience = process::Patience;
  void all_gather(const Call& call, Patience& patience);
  torch::Tensor reduce_block(const torch::Tensor& in, ReduceOp op, Patience& patience);
  void reduce_scatter(const Call& call, Patience& patience);
  void all_reduce(const Call& call, Patience& patience);
  void broadcast(const Call& call, Patience& patience);

  std::shared_ptr<HierarchicalJob> job_;
  std::shared_ptr<const std::vector<int>> world_hosts_;
  Layout layout_;
  std::unique_ptr<shm::ShmTransport> inside_;  ///< null: one rank a host, or uneven
  std::unique_ptr<mpi::MpiTransport> across_;  ///< ranks with this local rank; null: one host
  std::unique_ptr<mpi::MpiTransport> flat_;    ///< all
  std::unique_ptr<std::atomic<int64_t>[]> arrived_;
  std::vector<std::vector<char>> headers_;  ///< by host
  std::vector<Offer> offers_;
};

}  // namespace veomni::hierarchical
