// SPDX-License-Identifier: Apache-2.0
/// A group of processes that send each other messages.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mpi/runtime.h"
#include "process/transport.h"

namespace veomni::mpi {

/// A stretch of memory that travels as one message.
struct Piece {
  char* data;
  int64_t bytes;
};
using Pieces = std::vector<Piece>;

class MpiTransport final : public process::Transport {
 public:
  /// `id`: the same on all members, and of no other group.
  MpiTransport(std::shared_ptr<MpiJob> job, std::vector<int> members, int rank,
               const std::string& id);

  const std::vector<Offer>& meet(int64_t sequence, const Offer& mine, const OnArrival& seen,
                                 process::Patience& patience) override;
  bool arrived(int rank, int64_t sequence) const override {
    return arrived_[rank].load(std::memory_order_acquire) > sequence;
  }
  void move(const Call& call, const std::vector<Offer>& offers,
            process::Patience& patience) override;
  std::shared_ptr<Transport> split(const std::vector<int>& places, const std::string& id,
                                   process::Patience& patience) override;

  /// all[r] = mine of rank r; `bytes` each, equal on all ranks. here(r) is called as each comes.
  void exchange(const std::vector<char>& mine, std::vector<std::vector<char>>& all,
                const std::function<void(int rank)>& here, const process::Patience& patience);

 private:
  using Patience = process::Patience;
  /// What is reduced: block q of item i has `bytes(i, q)` bytes at `in(i, q)`, and goes to rank q.
  struct Reduction {
    size_t items;
    std::function<int64_t(size_t item, int rank)> bytes;
    std::function<char*(size_t item, int rank)> in;
    std::function<char*(size_t item)> out;
    std::function<std::pair<torch::ScalarType, torch::ScalarType>(size_t item)> dtypes;  // in, out
    ReduceOp op;
  };

  void finish(Messages& messages, const Patience& patience, int peer);
  void swap(const std::vector<Pieces>& sends, const std::vector<Pieces>& receives,
            const Patience& patience);
  void reduce(const Reduction& reduction, const Patience& patience);
  void all_gather(const Call& call, const Patience& patience);
  void reduce_scatter(const Call& call, const Patience& patience);
  void all_reduce(const Call& call, const Patience& patience);
  void all_to_all(const Call& call, const std::vector<Offer>& offers, const Patience& patience);
  void broadcast(const Call& call, const Patience& patience);

  std::shared_ptr<MpiJob> job_;
  int tag_;
  std::unique_ptr<std::atomic<int64_t>[]> arrived_;
  std::vector<std::vector<char>> headers_;
  std::vector<Offer> offers_;
  std::vector<char> scratch_;
};

}  // namespace veomni::mpi
