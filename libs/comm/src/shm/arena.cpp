// SPDX-License-Identifier: Apache-2.0
#include "shm/arena.h"

#include <c10/core/CPUAllocator.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "veomni/base/error.h"

namespace veomni::shm {

namespace {

constexpr int64_t kAlignment = 64;
// Kernels may read a vector past a tensor's end (veomni/ops/caching_allocator.h promises it too).
constexpr int64_t kRoomAfter = 64;

int64_t host_memory() {
  return static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
}

std::string failure_of(const char* what) {
  return detail::concat(what, ": ", std::strerror(errno));
}

}  // namespace

int64_t Places::take(int64_t bytes) {
  const int64_t need = (bytes + kRoomAfter + kAlignment - 1) / kAlignment * kAlignment;
  const auto fit = by_length_.lower_bound({need, 0});
  if (fit == by_length_.end()) return -1;
  const auto [length, at] = *fit;
  remove_free(free_.find(at));
  if (length > need) add_free(at + need, length - need);
  taken_[at] = need;
  return at;
}

void Places::give(int64_t at) {
  const auto entry = taken_.find(at);
  VEOMNI_DCHECK(entry != taken_.end());
  int64_t bytes = entry->second;
  taken_.erase(entry);
  if (const auto next = free_.find(at + bytes); next != free_.end()) {
    bytes += next->second;
    remove_free(next);
  }
  if (auto next = free_.lower_bound(at); next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == at) {
      at = before->first;
      bytes += before->second;
      remove_free(before);
    }
  }
  add_free(at, bytes);
}

void Places::add_free(int64_t at, int64_t bytes) {
  free_[at] = bytes;
  by_length_.insert({bytes, at});
}

void Places::remove_free(std::map<int64_t, int64_t>::iterator entry) {
  by_length_.erase({entry->second, entry->first});
  free_.erase(entry);
}

struct Arena::Block {
  std::shared_ptr<Arena> arena;
  int64_t at;  ///< -1: nothing
};

std::shared_ptr<Arena> Arena::make(std::string* why) {
  const int64_t bytes = host_memory();
  rlimit limit{};
  // The kernel answers a file that is too long with a signal.
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < static_cast<rlim_t>(bytes)) {
    *why = "files are limited to less than the host's memory (ulimit -f)";
    return nullptr;
  }
  const int descriptor = ::memfd_create("veomni-arena", MFD_CLOEXEC);
  if (descriptor < 0) {
    *why = failure_of("memfd_create");
    return nullptr;
  }
  void* data = MAP_FAILED;
  if (::ftruncate(descriptor, bytes) == 0) {
    data = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_NORESERVE, descriptor, 0);
  }
  if (data == MAP_FAILED) {
    *why = failure_of("mmap of as much as the host's memory (ulimit -v?)");
    ::close(descriptor);
    return nullptr;
  }
  ::madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // where the system allows it
  return std::shared_ptr<Arena>(new Arena(descriptor, static_cast<char*>(data), bytes));
}

Arena::~Arena() {
  ::munmap(data_, static_cast<size_t>(bytes_));
  ::close(descriptor_);
}

void Arena::show(ArenaCard& card) const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) return;
  card.device = status.st_dev;
  card.inode = status.st_ino;
  card.descriptor = descriptor_;
  card.bytes.store(static_cast<uint64_t>(bytes_), std::memory_order_release);
}

c10::DataPtr Arena::allocate(size_t bytes) {
  int64_t at = -1;
  if (bytes) {
    std::lock_guard lock(mutex_);
    at = places_.take(static_cast<int64_t>(bytes));
  }
  if (bytes && at < 0) return c10::GetCPUAllocator()->allocate(bytes);
  // A tensor without memory keeps the arena too: it may ask it for some later.
  return {at < 0 ? nullptr : data_ + at, new Block{shared_from_this(), at}, &free_block,
          c10::Device(c10::kCPU)};
}

void Arena::free_block(void* block) {
  const std::unique_ptr<Block> owned(static_cast<Block*>(block));
  if (owned->at < 0) return;
  std::lock_guard lock(owned->arena->mutex_);
  owned->arena->places_.give(owned->at);
}

void Arena::copy_data(void* to, const void* from, size_t bytes) const {
  std::memcpy(to, from, bytes);
}

std::unique_ptr<ArenaView> ArenaView::open(int pid, const ArenaCard& card, std::string* why) {
  const auto bytes = static_cast<size_t>(card.bytes.load(std::memory_order_acquire));
  const auto path = detail::concat("/proc/", pid, "/fd/", card.descriptor);
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    *why = failure_of(path.c_str());
    return nullptr;
  }
  struct stat status {};
  void* data = MAP_FAILED;
  // Elsewhere than in the owner's pid namespace the path may lead to another file.
  if (::fstat(descriptor, &status) != 0 || status.st_dev != card.device ||
      status.st_ino != card.inode) {
    *why = path + " is another file; the ranks do not share a pid namespace";
  } else {
    data = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, descriptor, 0);
    if (data == MAP_FAILED) *why = failure_of("mmap of a peer's arena (ulimit -v?)");
  }
  ::close(descriptor);
  if (data == MAP_FAILED) return nullptr;
  ::madvise(data, bytes, MADV_HUGEPAGE);
  ::madvise(data, bytes, MADV_DONTDUMP);
  return std::unique_ptr<ArenaView>(new ArenaView(static_cast<const char*>(data), bytes));
}

ArenaView::~ArenaView() { ::munmap(const_cast<char*>(data_), bytes_); }

}  // namespace veomni::shm
