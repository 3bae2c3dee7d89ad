// SPDX-License-Identifier: Apache-2.0
#include "shm/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "veomni/base/error.h"

namespace veomni::shm {

namespace {

constexpr uint32_t kReady = 0x766d7331;  // "vms1": the creator has set everything up

/// First in the segment; one byte a place follows.
struct Preamble {
  std::atomic<uint32_t> ready;
  int32_t places;
  uint64_t bytes;
  std::atomic<int32_t> attached;
  std::atomic<uint32_t> complete;  ///< all have attached, and the name is free again
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "processes share atomics");

std::atomic<uint8_t>* presence_of(Preamble* preamble) {
  return reinterpret_cast<std::atomic<uint8_t>*>(preamble + 1);
}

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::string path_of(const std::string& name) { return "/" + name; }

/// Closes a file when it goes.
struct File {
  int descriptor = -1;
  ~File() {
    if (descriptor >= 0) ::close(descriptor);
  }
};

/// Creates the segment's file with room for all of it. @return false if it exists
bool create(const std::string& name, size_t bytes, File& file) {
  file.descriptor = ::shm_open(path_of(name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file.descriptor < 0) {
    VEOMNI_CHECK(errno == EEXIST, "cannot create shared memory /dev/shm/", name, ": ",
                 std::strerror(errno));
    return false;
  }
  // Allocated now: a full /dev/shm would otherwise kill the rank that first touches a page.
  if (const int error = ::posix_fallocate(file.descriptor, 0, static_cast<off_t>(bytes))) {
    ::shm_unlink(path_of(name).c_str());
    throw_error(detail::concat("no room for ", bytes >> 10, " KiB in /dev/shm (", name,
                               "): ", std::strerror(error),
                               "; enlarge it (in a container: --shm-size), or start fewer ranks"));
  }
  return true;
}

/// @return false while the creator has not sized it, or it is gone
bool open_existing(const std::string& name, size_t bytes, File& file) {
  file.descriptor = ::shm_open(path_of(name).c_str(), O_RDWR | O_CLOEXEC, 0600);
  if (file.descriptor < 0) {
    VEOMNI_CHECK(errno == ENOENT, "cannot open shared memory /dev/shm/", name, ": ",
                 std::strerror(errno));
    return false;
  }
  struct stat status {};
  VEOMNI_CHECK(::fstat(file.descriptor, &status) == 0, "cannot stat /dev/shm/", name, ": ",
               std::strerror(errno));
  if (static_cast<size_t>(status.st_size) >= bytes) return true;
  ::close(file.descriptor);
  file.descriptor = -1;
  return false;
}

}  // namespace

Segment::Segment(const Options& options) {
  try {
    open(options);
    attend(options);
  } catch (...) {
    ::shm_unlink(path_of(options.name).c_str());
    if (mapping_) ::munmap(mapping_, mapped_);
    throw;
  }
}

Segment::~Segment() { ::munmap(mapping_, mapped_); }

void Segment::open(const Options& options) {
  const size_t head = round_up(sizeof(Preamble) + options.places, 64);
  mapped_ = round_up(head + options.bytes, 4096);
  File file;
  bool created = false;
  while (!(created = create(options.name, mapped_, file)) &&
         !open_existing(options.name, mapped_, file)) {
    options.check();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  void* mapping = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_SHARED, file.descriptor, 0);
  VEOMNI_CHECK(mapping != MAP_FAILED, "cannot map ", mapped_ >> 10, " KiB of /dev/shm/",
               options.name, ": ", std::strerror(errno));
  mapping_ = mapping;
  data_ = static_cast<char*>(mapping) + head;
  auto* preamble = static_cast<Preamble*>(mapping_);
  if (created) {
    preamble->places = options.places;
    preamble->bytes = options.bytes;
    preamble->ready.store(kReady, std::memory_order_release);
  }
}

void Segment::attend(const Options& options) {
  auto* preamble = static_cast<Preamble*>(mapping_);
  while (preamble->ready.load(std::memory_order_acquire) != kReady) {
    options.check();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  VEOMNI_CHECK(preamble->places == options.places && preamble->bytes == options.bytes,
               "shared memory /dev/shm/", options.name, " was made for ", preamble->places,
               " ranks, this one says ", options.places,
               "; is another job using the name, or did a killed one leave it?");
  VEOMNI_CHECK(presence_of(preamble)[options.place].exchange(1) == 0, "rank ",
               options.ranks[options.place], " has already joined /dev/shm/", options.name,
               "; two processes were started with one rank");
  if (preamble->attached.fetch_add(1) + 1 == options.places) {
    ::shm_unlink(path_of(options.name).c_str());
    preamble->complete.store(1, std::memory_order_release);
    return;
  }
  for (int tries = 0; preamble->complete.load(std::memory_order_acquire) == 0; ++tries) {
    try {
      options.check();
    } catch (const std::exception& e) {
      std::string missing;
      for (int p = 0; p < options.places; ++p) {
        if (!presence_of(preamble)[p])
          missing += detail::concat(missing.empty() ? "" : ", ", options.ranks[p]);
      }
      throw_error(detail::concat(e.what(), "; ranks that had not come: ", missing));
    }
    if (tries > 200)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    else
      std::this_thread::yield();
  }
}

}  // namespace veomni::shm
