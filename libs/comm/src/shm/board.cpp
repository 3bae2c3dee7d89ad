// SPDX-License-Identifier: Apache-2.0
#include "shm/board.h"

#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <thread>
#include <utility>

#include "veomni/base/error.h"
#include "veomni/base/log.h"

namespace veomni::shm {

namespace {

// Some microseconds: a peer on another core is often that near.
constexpr int kSpins = 200;
constexpr long kNapNanoseconds = 50'000'000;

size_t bytes_for(int size) {
  return sizeof(BoardLayout) + sizeof(BoardLayout::Seat) * static_cast<size_t>(size - 1);
}

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());
}

int open_pidfd(pid_t pid) {
#ifdef SYS_pidfd_open
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
#else
  return -1;
#endif
}

}  // namespace

void yield_core() { ::sched_yield(); }

Board::Board(const std::string& name, int rank, int size, const std::vector<int>& ranks,
             process::Clock::time_point deadline)
    : Job(rank, size), name_(name), ranks_(ranks), places_(size, -1) {
  const int seats = static_cast<int>(ranks.size());
  for (int p = 0; p < seats; ++p) places_[ranks[p]] = p;
  segment_ = std::make_unique<Segment>(Segment::Options{
      .name = name,
      .bytes = bytes_for(seats),
      .place = places_[rank],
      .places = seats,
      .ranks = ranks,
      .check = [&] {
        VEOMNI_CHECK(process::Clock::now() < deadline, "the ranks did not all come in time");
      }});
  layout_ = reinterpret_cast<BoardLayout*>(segment_->data());
  // A rank bound to a core of its own still shares the host's cores with the others.
  const int cores =
      std::max(available_cores(), static_cast<int>(std::thread::hardware_concurrency()));
  spins_ = seats <= cores ? kSpins : 0;
  peers_.resize(ranks.size());
  seat_of(rank).pid.store(::getpid(), std::memory_order_release);
  open_peers();
}

/// pidfds hold on to a process, where a number may be given to another.
void Board::open_peers() {
  pidfds_.assign(ranks_.size(), -1);
  for (size_t p = 0; p < ranks_.size(); ++p) {
    if (ranks_[p] == rank()) continue;
    // It attached a moment ago and writes its number next; it may have died in between.
    const auto give_up = process::Clock::now() + std::chrono::seconds(5);
    auto& pid = layout_->seats[p].pid;
    while (pid.load(std::memory_order_acquire) == 0 && process::Clock::now() < give_up)
      std::this_thread::yield();
    if (pid != 0 && pid != ::getpid()) pidfds_[p] = open_pidfd(pid);
  }
}

Board::~Board() {
  seat_of(rank()).left.store(1, std::memory_order_release);
  for (int r : ranks_) ring(r);
  for (int descriptor : pidfds_) {
    if (descriptor >= 0) ::close(descriptor);
  }
}

Arena* Board::arena() {
  std::call_once(arena_once_, [&] {
    std::string why;
    arena_ = Arena::make(&why);
    if (!arena_) {
      log::warn("shm: no memory that ranks share, so collectives copy once more: {}", why);
      return;
    }
    arena_->show(seat_of(rank()).arena);
    shown_arena_.store(arena_.get(), std::memory_order_release);
  });
  return arena_.get();
}

const char* Board::arena_of(int rank) {
  auto& peer = peers_[places_[rank]];
  const auto& seat = seat_of(rank);
  if (!peer.tried && seat.arena.bytes.load(std::memory_order_acquire)) {
    peer.tried = true;
    std::string why;
    peer.view = ArenaView::open(seat.pid.load(std::memory_order_acquire), seat.arena, &why);
    if (!peer.view && !std::exchange(warned_, true)) {
      log::warn(
          "shm: the memory of rank {} cannot be read where it lies, so ranks copy once more: {}; "
          "start all ranks of a host as one user in one pid namespace",
          rank, why);
    }
  }
  return peer.view ? peer.view->data() : nullptr;
}

std::string Board::reason() const {
  // Whoever writes it needs microseconds, unless it was killed meanwhile.
  for (int i = 0; i < 100 && layout_->abort_state.load(std::memory_order_acquire) != 2; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (layout_->abort_state.load(std::memory_order_acquire) != 2)
    return "aborted by a rank that died before it could say why";
  return std::string(layout_->reason, ::strnlen(layout_->reason, BoardLayout::kReasonBytes));
}

void Board::abort(const std::string& reason) {
  uint32_t none = 0;
  if (!layout_->abort_state.compare_exchange_strong(none, 1)) return;
  const size_t length = std::min(reason.size(), BoardLayout::kReasonBytes - 1);
  std::memcpy(layout_->reason, reason.data(), length);
  layout_->reason[length] = 0;
  layout_->abort_state.store(2, std::memory_order_release);
  for (int r : ranks_) ring(r);
}

void Board::wake(int rank) {
  auto& rung = seat_of(rank).rung;
  rung.fetch_add(1, std::memory_order_seq_cst);
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&rung), FUTEX_WAKE, INT_MAX, nullptr, nullptr,
            0);
}

void Board::sleep(uint32_t rung) {
  const timespec nap{0, kNapNanoseconds};
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&seat_of(rank()).rung), FUTEX_WAIT, rung, &nap,
            nullptr, 0);
}

bool Board::gone(int rank, process::PeerGone* how) const {
  const auto& seat = seat_of(rank);
  if (seat.left.load(std::memory_order_acquire)) {
    *how = {rank, "has ended", false};
    return true;
  }
  const pid_t pid = seat.pid.load(std::memory_order_acquire);
  if (pid == ::getpid()) return false;  // ranks as threads
  bool died;
  const int descriptor = pidfds_[places_[rank]];
  if (descriptor >= 0) {
    pollfd exited{descriptor, POLLIN, 0};
    died = ::poll(&exited, 1, 0) == 1;
  } else {
    died = pid == 0 || (::kill(pid, 0) != 0 && errno == ESRCH);
  }
  if (died) *how = {rank, detail::concat("(process ", pid, ") has died"), true};
  return died;
}

}  // namespace veomni::shm
