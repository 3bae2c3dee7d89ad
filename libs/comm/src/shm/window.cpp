// SPDX-License-Identifier: Apache-2.0
#include "shm/window.h"

#include <algorithm>

#include "process/header.h"
#include "veomni/base/error.h"

namespace veomni::shm {

namespace {

// 64 KiB: a chunk and its copy stay in the second-level cache (bench/comm).
constexpr int64_t kSlotBytes = 64 << 10;
constexpr int64_t kLeastLaneBytes = 16 << 10;

}  // namespace

Window::Window(std::shared_ptr<Board> board, const std::string& name,
               const std::vector<int>& members, int rank, int num_splits,
               const process::Patience* patience, process::Clock::time_point deadline)
    : board_(std::move(board)),
      members_(members),
      rank_(rank),
      size_(static_cast<int>(members.size())),
      num_splits_(num_splits) {
  const int64_t peers = size_ - 1;
  slot_bytes_ = std::max(kSlotBytes, peers * kLeastLaneBytes);
  lane_bytes_ = slot_bytes_ / peers / 64 * 64;
  header_bytes_ = static_cast<int64_t>(process::header_bytes(num_splits_));
  const int64_t lines_bytes = size_ * static_cast<int64_t>(sizeof(Line));
  const int64_t headers_bytes = size_ * 2 * header_bytes_;
  segment_ = std::make_unique<Segment>(Segment::Options{
      .name = name,
      .bytes = static_cast<size_t>(lines_bytes + headers_bytes + size_ * kSlots * slot_bytes_),
      .place = rank,
      .places = size_,
      .ranks = members,
      .check = [&] {
        if (patience) return patience->check();
        VEOMNI_CHECK(process::Clock::now() < deadline, "the ranks did not all come in time");
        VEOMNI_CHECK(!board_->aborted(), board_->reason());
      }});
  lines_ = reinterpret_cast<Line*>(segment_->data());
  headers_ = segment_->data() + lines_bytes;
  slots_ = headers_ + headers_bytes;
}

void Window::show(int64_t sequence, const Offer& offer) {
  process::write_header(header(rank_, sequence), offer, num_splits_);
  line(rank_).arrived.store(sequence + 1, std::memory_order_release);
  ring_all();
}

Offer Window::offer_of(int rank, int64_t sequence) const {
  return process::read_header(header(rank, sequence), num_splits_);
}

void Window::ring_all() {
  for (int r = 0; r < size_; ++r) {
    if (r != rank_) board_->ring(members_[r]);
  }
}

}  // namespace veomni::shm
