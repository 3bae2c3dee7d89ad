// SPDX-License-Identifier: Apache-2.0
/// Memory of one rank that the other ranks of its host may read where it lies.
#pragma once

#include <c10/core/Allocator.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

namespace veomni::shm {

/// How peers find an arena: in shared memory, zero at first.
struct ArenaCard {
  std::atomic<uint64_t> bytes;  ///< 0: there is none; written last
  uint64_t device, inode;
  int32_t descriptor;  ///< of the process that owns it
};

/// Places in a stretch of memory: best fit, neighbours coalesced. Knows numbers only.
class Places {
 public:
  explicit Places(int64_t bytes) { add_free(0, bytes); }
  /// Where `bytes` fit, a multiple of 64, with 64 bytes of room after them; -1: nowhere.
  int64_t take(int64_t bytes);
  void give(int64_t at);

 private:
  void add_free(int64_t at, int64_t bytes);
  void remove_free(std::map<int64_t, int64_t>::iterator entry);

  std::map<int64_t, int64_t> free_, taken_;          ///< begin -> bytes
  std::set<std::pair<int64_t, int64_t>> by_length_;  ///< (bytes, begin) of free_
};

/// A memory file of no name, as long as the host's memory and empty at first: pages come as they are
/// written. Freed memory is kept, so it holds as much as lived in it at once. It has no part in
/// /dev/shm, and goes with its process however that ends.
class Arena final : public c10::Allocator, public std::enable_shared_from_this<Arena> {
 public:
  /// Null where the system gives none; `why` then says so.
  static std::shared_ptr<Arena> make(std::string* why);
  ~Arena() override;

  /// Lets peers find it.
  void show(ArenaCard& card) const;

  /// Memory in the arena, or, when it is full, libtorch's own. What is allocated keeps the arena
  /// alive. Thread-safe.
  c10::DataPtr allocate(size_t bytes) override;
  void copy_data(void* to, const void* from, size_t bytes) const override;

  const char* data() const { return data_; }
  /// Where `address` lies from the beginning, or -1.
  int64_t offset_of(const void* address) const {
    const auto* at = static_cast<const char*>(address);
    return at >= data_ && at < data_ + bytes_ ? at - data_ : -1;
  }

 private:
  struct Block;
  Arena(int descriptor, char* data, int64_t bytes)
      : descriptor_(descriptor), data_(data), bytes_(bytes), places_(bytes) {}
  static void free_block(void* block);

  int descriptor_;
  char* data_;
  int64_t bytes_;
  std::mutex mutex_;
  Places places_;
};

/// A peer's arena, to be read.
class ArenaView {
 public:
  /// Null if this process may not; `why` then says so.
  static std::unique_ptr<ArenaView> open(int pid, const ArenaCard& card, std::string* why);
  ~ArenaView();
  ArenaView(const ArenaView&) = delete;
  ArenaView& operator=(const ArenaView&) = delete;

  const char* data() const { return data_; }

 private:
  ArenaView(const char* data, size_t bytes) : data_(data), bytes_(bytes) {}
  const char* data_;
  size_t bytes_;
};

}  // namespace veomni::shm
