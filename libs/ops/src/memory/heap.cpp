// SPDX-License-Identifier: Apache-2.0
#include "memory/heap.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>

#include "veomni/base/error.h"

namespace veomni::ops {

namespace {

enum class State : uint64_t {  // odd values, so that a stray pointer is noticed
  kLive = 0x7665'6f6d'6e69'a11c,
  kFree = 0x7665'6f6d'6e69'f4ee,
  kEnd = 0x7665'6f6d'6e69'e0d5,
};

constexpr size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

}  // namespace

/// In front of every block's bytes. Free blocks' headers stay in memory when their pages go.
struct alignas(Heap::kAlign) Heap::Block {
  State state;
  size_t size;             ///< bytes after the header, a multiple of kAlign
  size_t asked;            ///< of them, if live
  Block* below;            ///< the neighbour at the lower address, null for the first
  Block *next, *previous;  ///< of the free list

  std::byte* bytes() { return reinterpret_cast<std::byte*>(this + 1); }
  std::byte* end() { return bytes() + size; }
};

namespace {
// A remainder that can hold something becomes a block.
constexpr size_t kLeastBlock = 2 * Heap::kAlign;
// Blocks of a list looked at for the smallest that fits.
constexpr int kLooks = 32;
constexpr size_t kLeastReserve = size_t{64} << 20;
}  // namespace

Heap::Heap(const HeapOptions& options) : options_(options) {
  static_assert(sizeof(Block) == kAlign);
  size_t reserve = round_up(options.reserve_bytes, kHugePage);
  void* got = MAP_FAILED;
  for (; got == MAP_FAILED; reserve /= 2) {
    mapped_ = round_up(reserve, kHugePage) + kHugePage;
    got = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    VEOMNI_CHECK(got != MAP_FAILED || reserve > kLeastReserve,
                 "cannot reserve 64 MiB of addresses for tensors; raise the limit of address space "
                 "(ulimit -v) or choose memory.allocator: system");
  }
  mapping_ = static_cast<std::byte*>(got);
  const size_t address = reinterpret_cast<size_t>(mapping_);
  base_ = mapping_ + (round_up(address, kHugePage) - address);
  reserved_ = mapped_ - kHugePage;
  // Where huge pages are off, ordinary ones serve.
  madvise(base_, reserved_, MADV_HUGEPAGE);
  top_ = base_;
}

Heap::~Heap() { munmap(mapping_, mapped_); }

size_t Heap::bin_of(size_t size) {
  const size_t units = size / kAlign;
  if (units < kBinsPerPower) return units;
  const size_t shift = std::bit_width(units) - 5;  // leaves 16 ... 31
  return std::min(kBins - 1, shift * kBinsPerPower + (units >> shift));
}

Heap::Block* Heap::next_of(Block* block) const { return reinterpret_cast<Block*>(block->end()); }

void Heap::link(Block* block) {
  const size_t bin = bin_of(block->size);
  block->state = State::kFree;
  block->previous = nullptr;
  block->next = free_[bin];
  if (block->next) block->next->previous = block;
  free_[bin] = block;
  any_free_[bin / 64] |= uint64_t{1} << (bin % 64);
}

void Heap::unlink(Block* block) {
  const size_t bin = bin_of(block->size);
  (block->previous ? block->previous->next : free_[bin]) = block->next;
  if (block->next) block->next->previous = block->previous;
  if (!free_[bin]) any_free_[bin / 64] &= ~(uint64_t{1} << (bin % 64));
}

// The latest freed among equals: it is the likeliest to be in the processor's cache.
Heap::Block* Heap::best_in(size_t bin, size_t size) const {
  Block* best = nullptr;
  int looks = 0;
  for (Block* block = free_[bin]; block && looks < kLooks; block = block->next, ++looks) {
    if (block->size == size) return block;
    if (block->size > size && (!best || block->size < best->size)) best = block;
  }
  return best;
}

Heap::Block* Heap::find(size_t size) const {
  const size_t own = bin_of(size);
  if (Block* block = best_in(own, size)) return block;
  size_t word = (own + 1) / 64;
  if (word >= any_free_.size()) return nullptr;
  uint64_t bits = any_free_[word] & (~uint64_t{0} << ((own + 1) % 64));
  while (!bits) {
    if (++word == any_free_.size()) return nullptr;
    bits = any_free_[word];
  }
  return best_in(word * 64 + std::countr_zero(bits), size);
}

// The old sentinel becomes the new block's header, or that of what it merges with.
Heap::Block* Heap::grow(size_t size) {
  Block* sentinel = top_ == base_ ? nullptr : reinterpret_cast<Block*>(top_) - 1;
  Block* last = sentinel ? sentinel->below : nullptr;
  size_t need = size + kAlign;    // with the new sentinel
  if (!sentinel) need += kAlign;  // and the first header
  if (last && last->state == State::kFree) need -= last->size + kAlign;
  need = round_up(need, kHugePage);
  if (need > static_cast<size_t>(base_ + reserved_ - top_)) return nullptr;
  if (mprotect(top_, need, PROT_READ | PROT_WRITE) != 0) return nullptr;
  held_.resize(held_.size() + need / kHugePage, false);
  top_ += need;
  Block* block = sentinel ? sentinel : reinterpret_cast<Block*>(base_);
  Block* end = reinterpret_cast<Block*>(top_) - 1;
  hold(block, block + 1);
  hold(end, end + 1);
  block->size = static_cast<size_t>(reinterpret_cast<std::byte*>(end) - block->bytes());
  block->below = last;
  end->state = State::kEnd;
  end->size = 0;
  end->below = block;
  block = coalesce(block);
  link(block);
  return block;
}

// A block in no list -> it and its free neighbours, in no list.
Heap::Block* Heap::coalesce(Block* block) {
  Block* above = next_of(block);
  if (above->state == State::kFree) {
    unlink(above);
    block->size += kAlign + above->size;
  }
  Block* below = block->below;
  if (below && below->state == State::kFree) {
    unlink(below);
    below->size += kAlign + block->size;
    block = below;
  }
  next_of(block)->below = block;
  return block;
}

// Leaves `block`, in no list, with `size` bytes; the rest becomes free. Neighbours of a free block are live, so there
// is nothing to merge it with.
void Heap::split(Block* block, size_t size) {
  if (block->size - size < kLeastBlock) return;
  Block* rest = reinterpret_cast<Block*>(block->bytes() + size);
  hold(rest, rest + 1);
  rest->size = block->size - size - kAlign;
  rest->below = block;
  block->size = size;
  next_of(rest)->below = rest;
  link(rest);
}

void Heap::hold(const void* begin, const void* end) {
  const auto first = static_cast<size_t>(static_cast<const std::byte*>(begin) - base_) / kHugePage;
  const auto last = static_cast<size_t>(static_cast<const std::byte*>(end) - base_ - 1) / kHugePage;
  for (size_t page = first; page <= last; ++page) {
    if (held_[page]) continue;
    held_[page] = true;
    ++num_held_;
  }
}

size_t Heap::limit() const {
  return static_cast<size_t>(options_.slack * static_cast<double>(peak_)) + options_.spare_bytes;
}

void* Heap::allocate(size_t bytes) {
  if (bytes > reserved_) return nullptr;
  const size_t size = round_up(std::max<size_t>(bytes, 1), kAlign);
  const std::lock_guard lock(mutex_);
  Block* block = find(size);
  if (!block) block = grow(size);
  if (!block) return nullptr;
  unlink(block);
  split(block, size);
  block->state = State::kLive;
  block->asked = bytes;
  hold(block, block->end());
  live_ += bytes;
  peak_ = std::max(peak_, live_);
  if (num_held_ * kHugePage > limit()) release_locked(limit());
  return block->bytes();
}

size_t Heap::free(void* pointer) {
  VEOMNI_CHECK(owns(pointer) && reinterpret_cast<size_t>(pointer) % kAlign == 0,
               "memory: a tensor's address ", pointer, " is none of this heap");
  const std::lock_guard lock(mutex_);
  Block* block = static_cast<Block*>(pointer) - 1;
  VEOMNI_CHECK(block->state == State::kLive, "memory: the block at ", pointer,
               block->state == State::kFree
                   ? " is freed twice"
                   : " has a broken header: something wrote before its first byte or past the end "
                     "of the block below");
  const size_t asked = block->asked;
  live_ -= asked;
  block->state =
      State::kFree;  // also where it becomes the middle of another: a second free is noticed
  block = coalesce(block);
  link(block);
  return asked;
}

void Heap::release(size_t target_bytes) {
  const std::lock_guard lock(mutex_);
  release_locked(target_bytes);
}

void Heap::release_locked(size_t target_bytes) {
  for (size_t bin = kBins; bin-- > bin_of(kHugePage);) {
    for (Block* block = free_[bin]; block; block = block->next) {
      if (num_held_ * kHugePage <= target_bytes) return;
      release_inside(block, target_bytes);
    }
  }
}

// Whole pages between the header and the next one, the highest first: blocks are split from below.
void Heap::release_inside(Block* block, size_t target_bytes) {
  const auto first = round_up(static_cast<size_t>(block->bytes() - base_), kHugePage) / kHugePage;
  const auto last = static_cast<size_t>(block->end() - base_) / kHugePage;
  size_t end = last;
  while (end > first && num_held_ * kHugePage > target_bytes) {
    if (!held_[--end]) continue;
    size_t begin = end;  // a run of held pages in one call
    const size_t excess = num_held_ - target_bytes / kHugePage;
    while (begin > first && held_[begin - 1] && end + 1 - begin < excess) --begin;
    madvise(base_ + begin * kHugePage, (end + 1 - begin) * kHugePage, MADV_DONTNEED);
    for (size_t page = begin; page <= end; ++page) held_[page] = false;
    num_held_ -= end + 1 - begin;
    end = begin;
  }
}

HeapStats Heap::stats() const {
  const std::lock_guard lock(mutex_);
  return {live_, peak_, num_held_ * kHugePage};
}

void Heap::check() const {
  const std::lock_guard lock(mutex_);
  if (top_ == base_) return;
  size_t live = 0, num_free = 0;
  Block* below = nullptr;
  Block* block = reinterpret_cast<Block*>(base_);
  for (; block->state != State::kEnd; below = block, block = next_of(block)) {
    const auto at = reinterpret_cast<std::byte*>(block) - base_;
    const bool is_free = block->state == State::kFree;
    VEOMNI_CHECK(is_free || block->state == State::kLive, "heap: no header at ", at);
    VEOMNI_CHECK(block->below == below, "heap: the block at ", at, " does not know its neighbour");
    VEOMNI_CHECK(!is_free || !below || below->state != State::kFree, "heap: the free blocks at ",
                 at, " are not one");
    num_free += is_free;
    if (!is_free) live += block->asked;
  }
  VEOMNI_CHECK(block->below == below && reinterpret_cast<std::byte*>(block + 1) == top_,
               "heap: the last block does not reach the end");
  VEOMNI_CHECK(live == live_, "heap: live bytes are ", live, ", counted ", live_);
  for (size_t bin = 0; bin < kBins; ++bin) {
    VEOMNI_CHECK((free_[bin] != nullptr) == ((any_free_[bin / 64] >> (bin % 64)) & 1),
                 "heap: the bit of list ", bin, " is wrong");
    for (Block* b = free_[bin]; b; b = b->next, --num_free)
      VEOMNI_CHECK(bin_of(b->size) == bin && b->state == State::kFree, "heap: list ", bin,
                   " has a block of ", b->size, " bytes that does not belong there");
  }
  VEOMNI_CHECK(num_free == 0, "heap: ", num_free, " free blocks are in no list");
  VEOMNI_CHECK(static_cast<size_t>(std::count(held_.begin(), held_.end(), true)) == num_held_,
               "heap: the count of held pages is wrong");
}

}  // namespace veomni::ops
