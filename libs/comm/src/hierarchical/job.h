// SPDX-License-Identifier: Apache-2.0
/// A job over hosts: what ends it in shared memory or over MPI ends it in both.
#pragma once

#include <memory>
#include <string>

#include "mpi/runtime.h"
#include "shm/board.h"
#include "veomni/base/error.h"

namespace veomni::hierarchical {

class HierarchicalJob final : public process::Job {
 public:
  HierarchicalJob(std::shared_ptr<mpi::MpiJob> mpi, std::shared_ptr<shm::Board> board)
      : Job(mpi->rank(), mpi->size()), mpi_(std::move(mpi)), board_(std::move(board)) {}

  bool aborted() const override { return mpi_->aborted() || board_->aborted(); }
  std::string reason() const override {
    return mpi_->aborted() ? mpi_->reason() : board_->reason();
  }
  void abort(const std::string& reason) override {
    mpi_->abort(reason);
    board_->abort(reason);
  }
  void poll() override {
    look_for_the_dead();
    if (board_->aborted() && !mpi_->aborted()) mpi_->abort(board_->reason());
    mpi_->poll();
    if (mpi_->aborted() && !board_->aborted()) board_->abort(mpi_->reason());
  }

  const std::shared_ptr<mpi::MpiJob>& mpi() const { return mpi_; }
  const std::shared_ptr<shm::Board>& board() const { return board_; }

 private:
  /// A neighbour that was killed ends the job whatever this rank waits for, before ranks of other
  /// hosts, who cannot see it, are ended by their launcher without a word.
  void look_for_the_dead() {
    const auto now = process::Clock::now();
    if (now < next_look_ || aborted()) return;
    next_look_ = now + std::chrono::milliseconds(20);
    process::PeerGone how;
    for (int neighbour : board_->ranks()) {
      if (neighbour != rank() && board_->gone(neighbour, &how) && how.died)
        return abort(detail::concat("rank ", neighbour, " ", how.how));
    }
  }

  std::shared_ptr<mpi::MpiJob> mpi_;
  std::shared_ptr<shm::Board> board_;
  process::Clock::time_point next_look_{};
};

}  // namespace veomni::hierarchical
