// SPDX-License-Identifier: Apache-2.0
/// A group of processes that move bytes through a Window.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lane.h"
#include "process/transport.h"
#include "shm/inputs.h"
#include "shm/window.h"

namespace veomni::shm {

class ShmTransport final : public process::Transport {
 public:
  /// `window` is null for a group of one.
  ShmTransport(std::shared_ptr<Board> board, std::vector<int> members, int rank,
               std::unique_ptr<Window> window);

  const std::vector<Offer>& meet(int64_t sequence, const Offer& mine, const OnArrival& seen,
                                 process::Patience& patience) override;
  bool arrived(int rank, int64_t sequence) const override { return window_->shown(rank, sequence); }
  void move(const Call& call, const std::vector<Offer>& offers,
            process::Patience& patience) override;
  std::shared_ptr<Transport> split(const std::vector<int>& places, const std::string& id,
                                   process::Patience& patience) override;
  c10::Allocator* window_allocator() override { return board_->arena(); }

 private:
  using Patience = process::Patience;
  /// Moves a call's bytes: of each input i a rank takes `lengths[i]` from each peer. take(part, g)
  /// reads that part from all ranks, once for an input that all ranks have in place, else chunk by
  /// chunk. stage(part, g) puts it into this rank's slot of step g first, where it is not in place.
  template <typename Stage, typename Take>
  void flow(const std::vector<torch::Tensor>& ins, const std::vector<int64_t>& lengths,
            int64_t chunk, const Patience& patience, Stage stage, Take take);
  void all_gather(const Call& call, const Patience& patience);
  void reduce_scatter(const Call& call, const Patience& patience);
  void all_reduce(const Call& call, const Patience& patience);
  void reduce_whole(const Call& call, const Patience& patience);
  void reduce_stretches(const Call& call, const Patience& patience);
  void gather_stretches(const torch::Tensor& out, const Patience& patience);
  void all_to_all(const Call& call, const std::vector<Offer>& offers, const Patience& patience);
  void broadcast(const Call& call, const Patience& patience);

  std::shared_ptr<Board> board_;
  std::unique_ptr<Window> window_;
  Inputs inputs_;  ///< of the call under way
  std::vector<const char*> said_;
  std::vector<Offer> offers_;
  std::vector<const void*> sources_;  ///< of one reduction, by rank
};

}  // namespace veomni::shm
