// SPDX-License-Identifier: Apache-2.0
/// One heap of the caching allocator: best fit with splitting and coalescing over huge pages that are kept.
///
/// The heap is one range of reserved addresses that is made writable from the bottom up, so any two
/// free neighbours can become one block. Free blocks lie in lists by size: sixteen to each power of
/// two (Masmano et al., "TLSF", 2004), and the smallest that fits is taken. What PyTorch's
/// CUDACachingAllocator does with segments, held pages do here: a range of kHugePage bytes is held
/// once something in it was used, until release() gives it back while its block stays free.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace veomni::ops {

struct HeapOptions {
  size_t reserve_bytes = size_t{1} << 32;  ///< addresses to reserve; takes no memory
  double slack = 1.5;                      ///< held pages are kept up to slack * peak live bytes
  size_t spare_bytes = size_t{64} << 20;   ///< + spare_bytes
};

struct HeapStats {
  size_t live_bytes = 0;  ///< asked for and not yet freed
  size_t peak_bytes = 0;  ///< highest live_bytes
  size_t held_bytes = 0;  ///< of the system's memory, in whole huge pages
};

/// Thread-safe, one lock. Not for use in a forked child of a process with several threads.
class Heap {
 public:
  static constexpr size_t kAlign = 64;  ///< a cache line, the widest vector register
  static constexpr size_t kHugePage = size_t{2} << 20;

  /// Reserves less where the system refuses, down to 64 MiB. @throws Error below that
  explicit Heap(const HeapOptions& options);
  ~Heap();
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  /// At least `bytes` > 0 bytes at a multiple of kAlign, not zeroed; the kAlign bytes after them may be
  /// read. Null where the reserved range or the system has no more.
  ///
  /// Held pages stay below slack * peak + spare as far as free pages can be given back for that; a
  /// page with a live byte cannot.
  void* allocate(size_t bytes);

  /// The bytes that allocate() was asked for. @throws Error if `pointer` is no live block of this heap
  size_t free(void* pointer);

  bool owns(const void* pointer) const { return pointer >= base_ && pointer < base_ + reserved_; }

  /// Gives free pages back, those of the largest blocks first, until at most `target_bytes` are held.
  void release(size_t target_bytes);

  HeapStats stats() const;

  /// Walks all blocks. @throws Error naming the first whose neighbours, lists or counts disagree; for tests
  void check() const;

 private:
  struct Block;
  static constexpr size_t kBinsPerPower = 16, kBins = 40 * kBinsPerPower;

  static size_t bin_of(size_t size);
  Block* next_of(Block* block) const;
  void link(Block* block);
  void unlink(Block* block);
  Block* find(size_t size) const;
  Block* best_in(size_t bin, size_t size) const;
  Block* grow(size_t size);
  Block* coalesce(Block* block);
  void split(Block* block, size_t size);
  void hold(const void* begin, const void* end);
  void release_locked(size_t target_bytes);
  void release_inside(Block* block, size_t target_bytes);
  size_t limit() const;

  const HeapOptions options_;
  mutable std::mutex mutex_;
  std::byte* mapping_ = nullptr;  ///< what mmap returned
  size_t mapped_ = 0;
  std::byte* base_ = nullptr;  ///< its first huge page
  size_t reserved_ = 0;
  std::byte* top_ = nullptr;  ///< end of the writable part; the last header before it is a sentinel
  std::vector<bool> held_;    ///< by huge page, up to top_
  size_t num_held_ = 0;
  size_t live_ = 0, peak_ = 0;
  std::array<Block*, kBins> free_{};
  std::array<uint64_t, kBins / 64> any_free_{};  ///< a bit a list
};

}  // namespace veomni::ops
