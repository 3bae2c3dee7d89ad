// SPDX-License-Identifier: Apache-2.0
/// What all ranks of a shm job see of each other: who is there, why the job ended, and a bell each.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "process/transport.h"
#include "shm/arena.h"
#include "shm/segment.h"

namespace veomni::shm {

/// In shared memory, zero at first.
struct BoardLayout {
  static constexpr size_t kReasonBytes = 4000;
  std::atomic<uint32_t> abort_state;  ///< 0 no, 1 the reason is being written, 2 aborted
  char reason[kReasonBytes];
  struct alignas(64) Seat {
    std::atomic<int32_t> pid;
    std::atomic<uint32_t> left;      ///< makes no more calls
    std::atomic<uint32_t> rung;      ///< futex
    std::atomic<uint32_t> sleeping;  ///< on `rung`
    ArenaCard arena;
  };
  Seat seats[1];  ///< one a rank of this host
};

class Board final : public process::Job {
 public:
  /// Waits until every one of `ranks` (world ranks, `rank` among them) has its seat; `size` is the
  /// world's.
  Board(const std::string& name, int rank, int size, const std::vector<int>& ranks,
        process::Clock::time_point deadline);
  /// Tells the others that this rank makes no more calls.
  ~Board() override;

  bool aborted() const override { return layout_->abort_state.load(std::memory_order_relaxed); }
  std::string reason() const override;
  void abort(const std::string& reason) override;

  const std::string& name() const { return name_; }
  /// World ranks that have a seat.
  const std::vector<int>& ranks() const { return ranks_; }
  /// Whether `rank`, of ranks(), makes no more calls, and why.
  bool gone(int rank, process::PeerGone* how) const;

  /// This rank's, made by the first call; null where the system gives none. Any thread.
  Arena* arena();
  /// Where `address` lies in this rank's arena, or -1.
  int64_t offset_of(const void* address) const {
    const Arena* mine = shown_arena_.load(std::memory_order_acquire);
    return mine ? mine->offset_of(address) : -1;
  }
  /// Where another rank's arena begins here; null: it has none yet, or this process may not read it.
  /// Only for the thread that runs calls.
  const char* arena_of(int rank);

  /// To be called after a change that `rank` may be waiting for.
  void ring(int rank) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (seat_of(rank).sleeping.load(std::memory_order_relaxed)) wake(rank);
  }

  /// How long a wait stays awake before it sleeps.
  enum class Awake {
    kBriefly,  ///< for peers that may be computing
    kLonger    ///< for peers that are moving the same bytes
  };

  /// Waits until ready() is negative; it returns the world rank still waited for. Stays awake at
  /// first, soon giving the core away between looks, then sleeps until rung.
  /// @throws what Patience::check does; PeerGone if that rank cannot make it ready any more
  template <typename Ready> void wait(const process::Patience& patience, Awake awake, Ready ready);

 private:
  BoardLayout::Seat& seat_of(int rank) const { return layout_->seats[places_[rank]]; }
  void wake(int rank);
  void sleep(uint32_t rung);
  void open_peers();

  std::string name_;
  std::unique_ptr<Segment> segment_;
  BoardLayout* layout_;
  std::vector<int> ranks_, places_;  ///< by seat; by world rank
  std::vector<int> pidfds_;          ///< by seat; -1: kill(pid, 0) must do
  std::once_flag arena_once_;
  std::shared_ptr<Arena> arena_;
  std::atomic<Arena*> shown_arena_{nullptr};
  struct Peer {
    bool tried = false;
    std::unique_ptr<ArenaView> view;
  };
  std::vector<Peer> peers_;  ///< by seat
  bool warned_ = false;      ///< that a peer's cannot be read
  int spins_;
};

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void yield_core();

// Short beside a layer's computation; and long beside a chunk's copy, which takes 10 us.
inline constexpr std::chrono::microseconds kMeetAwake{50}, kMoveAwake{2000};

template <typename Ready>
void Board::wait(const process::Patience& patience, Awake awake, Ready ready) {
  for (int i = 0; i < spins_; ++i) {
    if (ready() < 0) return;
    relax();
  }
  // A peer that was put on this core gets on with it; one that sleeps would stay there, because
  // nobody moves it while each of the two sleeps in turn.
  const auto tired = process::Clock::now() + (awake == Awake::kLonger ? kMoveAwake : kMeetAwake);
  do {
    for (int i = 0; i < 8; ++i) {
      if (ready() < 0) return;
      yield_core();
    }
  } while (process::Clock::now() < tired);
  auto& seat = seat_of(rank());
  while (true) {
    // The bell first, then a look: what happens between the two changes `rung`.
    seat.sleeping.store(1, std::memory_order_seq_cst);
    const uint32_t rung = seat.rung.load(std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const int awaited = ready();
    if (awaited >= 0 && !aborted()) sleep(rung);
    seat.sleeping.store(0, std::memory_order_relaxed);
    if (awaited < 0 || ready() < 0) return;
    patience.check();
    process::PeerGone how;
    // It may have done its part just before it went.
    if (gone(awaited, &how) && ready() == awaited) throw how;
  }
}

}  // namespace veomni::shm
