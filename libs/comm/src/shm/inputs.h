// SPDX-License-Identifier: Apache-2.0
/// Which inputs of a call its ranks read where they lie.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "shm/board.h"

namespace veomni::shm {

/// Each rank says where its inputs lie in its arena and whose arenas it can read. An input is read
/// in place if it lies in one and every rank can read that. All ranks come to the same answer.
class Inputs {
 public:
  /// `members`: world ranks of the group that calls; `rank`: this one's place among them.
  Inputs(Board& board, const std::vector<int>& members, int rank)
      : board_(board), members_(members), rank_(rank) {}

  /// Bytes of what a rank says of `count` inputs.
  int64_t bytes_for(size_t count) const {
    return spoken_for() + static_cast<int64_t>(count * sizeof(int64_t));
  }
  void say(char* to, const std::vector<torch::Tensor>& ins) const;
  /// said[r]: what rank r said of `count` inputs.
  void hear(const std::vector<const char*>& said, size_t count);
  /// Nobody has said anything: no input is read in place.
  void hear_nothing(size_t count);

  /// Input i of rank r, readable here; null: it comes through the slots.
  const char* at(int r, size_t i) const { return begins_[static_cast<size_t>(r) * count_ + i]; }
  /// Whether no rank's input i comes through the slots.
  bool all_in_place(size_t i) const;
  /// Whether peers read any of this rank's inputs in place.
  bool lends() const;

 private:
  int64_t spoken_for() const { return static_cast<int64_t>((members_.size() + 7) / 8 * 8); }

  Board& board_;
  const std::vector<int>& members_;
  int rank_;
  size_t count_ = 0;
  std::vector<const char*> begins_;
};

}  // namespace veomni::shm
