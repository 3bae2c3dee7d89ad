// SPDX-License-Identifier: Apache-2.0
/// The shared memory of one group: where its ranks show their calls, and the slots through which
/// bytes pass.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "call.h"
#include "shm/board.h"
#include "shm/segment.h"

namespace veomni::shm {

/// Every rank writes its own slots and counters only. Steps are numbered through a group's life;
/// each rank takes part in all of them. Slot g % kSlots carries step g.
class Window {
 public:
  static constexpr int kSlots = 4;

  /// Joins the segment `name` as `rank` of `members` (world ranks). Offers have `num_splits`
  /// splits: as many as ranks in the group that calls.
  Window(std::shared_ptr<Board> board, const std::string& name, const std::vector<int>& members,
         int rank, int num_splits, const process::Patience* patience,
         process::Clock::time_point deadline);

  /// Bytes of a slot, and of a peer's lane where each peer gets bytes of its own.
  int64_t slot_bytes() const { return slot_bytes_; }
  int64_t lane_bytes() const { return lane_bytes_; }

  /// Shows an offer; only after every rank has shown the one before.
  void show(int64_t sequence, const Offer& offer);
  bool shown(int rank, int64_t sequence) const {
    return line(rank).arrived.load(std::memory_order_acquire) > sequence;
  }
  /// Requires shown(); valid until this rank shows the next but one.
  Offer offer_of(int rank, int64_t sequence) const;

  /// `rank`'s slot of step `step`, and in it the lane that `to` reads.
  char* slot(int rank, int64_t step) const {
    return slots_ + (static_cast<int64_t>(rank) * kSlots + step % kSlots) * slot_bytes_;
  }
  char* lane(int rank, int64_t step, int to) const {
    return slot(rank, step) + (to < rank ? to : to - 1) * lane_bytes_;
  }

  /// Runs `steps` steps: produce(s, g) fills this rank's slot of step g, consume(s, g) reads the
  /// others'. s counts from 0; the window's own g goes on from the last call.
  template <typename Produce, typename Consume>
  void pipeline(int64_t steps, const process::Patience& patience, Produce produce, Consume consume);

  /// Waits until all other ranks have read all steps so far.
  void drain(const process::Patience& patience) { await<&Line::consumed>(step_, patience); }

  /// Waits until all other ranks have shown `sequence`; calls seen(r) as each has.
  template <typename Seen>
  void await_shown(int64_t sequence, const process::Patience& patience, Seen seen);

 private:
  /// A rank's counters, each on a cache line of its own.
  struct Line {
    alignas(64) std::atomic<int64_t> arrived;    ///< calls shown
    alignas(64) std::atomic<int64_t> published;  ///< steps written
    alignas(64) std::atomic<int64_t> consumed;   ///< steps of all others read
  };

  Line& line(int rank) const { return lines_[rank]; }
  char* header(int rank, int64_t sequence) const {
    return headers_ + (static_cast<int64_t>(rank) * 2 + sequence % 2) * header_bytes_;
  }
  void ring_all();
  template <std::atomic<int64_t> Line::*counter>
  void await(int64_t value, const process::Patience& patience);

  std::shared_ptr<Board> board_;
  std::vector<int> members_;
  int rank_, size_, num_splits_;
  int64_t slot_bytes_, lane_bytes_, header_bytes_;
  std::unique_ptr<Segment> segment_;
  Line* lines_;
  char *headers_, *slots_;
  int64_t step_ = 0;
};

template <std::atomic<int64_t> Window::Line::*counter>
void Window::await(int64_t value, const process::Patience& patience) {
  int next = 0;  // ranks before it have been seen to be there
  board_->wait(patience, Board::Awake::kLonger, [&] {
    for (; next < size_; ++next) {
      if (next != rank_ && (line(next).*counter).load(std::memory_order_acquire) < value)
        return members_[next];
    }
    return -1;
  });
}

template <typename Produce, typename Consume>
void Window::pipeline(int64_t steps, const process::Patience& patience, Produce produce,
                      Consume consume) {
  const int64_t base = step_;
  for (int64_t s = 0; s <= steps; ++s) {
    if (s < steps) {
      const int64_t g = base + s;
      await<&Line::consumed>(g + 1 - kSlots, patience);
      produce(s, g);
      line(rank_).published.store(g + 1, std::memory_order_release);
      ring_all();
    }
    if (s > 0) {
      const int64_t g = base + s - 1;
      await<&Line::published>(g + 1, patience);
      consume(s - 1, g);
      line(rank_).consumed.store(g + 1, std::memory_order_release);
      ring_all();
    }
  }
  step_ = base + steps;
}

template <typename Seen>
void Window::await_shown(int64_t sequence, const process::Patience& patience, Seen seen) {
  std::vector<int> missing;
  for (int r = 0; r < size_; ++r) {
    if (r != rank_) missing.push_back(r);
  }
  board_->wait(patience, Board::Awake::kBriefly, [&] {
    for (size_t i = 0; i < missing.size();) {
      if (!shown(missing[i], sequence)) {
        ++i;
        continue;
      }
      const int r = missing[i];
      missing.erase(missing.begin() + static_cast<int64_t>(i));
      seen(r);
    }
    return missing.empty() ? -1 : members_[missing.front()];
  });
}

}  // namespace veomni::shm
