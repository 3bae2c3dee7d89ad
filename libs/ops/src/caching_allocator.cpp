// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/caching_allocator.h"

#include <c10/core/Allocator.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "memory/heap.h"
#include "veomni/base/error.h"

namespace veomni::ops {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
#else
constexpr bool kAddressSanitizer = false;
#endif

// Addresses are free where they are not limited; holes in them never are what ends a run.
size_t bytes_to_reserve() {
  const size_t memory = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    return std::min<size_t>(8 * memory, limit.rlim_cur / 4);
  return 8 * memory;
}

HeapOptions heap_options() {
  return {bytes_to_reserve(), kSlack, static_cast<size_t>(kSpareBytes)};
}

std::string mib(size_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

class CachingAllocator final : public c10::Allocator {
 public:
  // Never destroyed: tensors outlive main.
  static CachingAllocator& get() {
    static auto* allocator = new CachingAllocator;
    return *allocator;
  }

  // The context is the address: oneDNN takes scratch through raw_allocate, which insists on it.
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(c10::kCPU);
    if (bytes == 0) return {nullptr, nullptr, &release, device};
    void* data = heap_for(bytes).allocate(bytes);
    if (!data) throw_out_of_memory(bytes);
    const size_t live = live_.fetch_add(bytes) + bytes;
    size_t peak = peak_.load();
    while (live > peak && !peak_.compare_exchange_weak(peak, live)) {
    }
    return {data, data, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }

  MemoryStats stats() const {
    const size_t held = small_.stats().held_bytes + large_.stats().held_bytes;
    return {static_cast<int64_t>(live_.load()), static_cast<int64_t>(peak_.load()),
            static_cast<int64_t>(held)};
  }
  void release_free() {
    small_.release(0);
    large_.release(0);
  }

 private:
  CachingAllocator() : small_(heap_options()), large_(heap_options()) {}

  static void release(void* data) {
    if (!data) return;
    CachingAllocator& self = get();
    Heap& heap = self.small_.owns(data) ? self.small_ : self.large_;
    self.live_.fetch_sub(heap.free(data));
  }

  Heap& heap_for(size_t bytes) { return bytes < kSmallBlock ? small_ : large_; }

  [[noreturn]] void throw_out_of_memory(size_t bytes) const {
    const MemoryStats now = stats();
    throw_error(detail::concat(
        "out of memory: a tensor asks for ", mib(bytes), "; tensors have ", mib(now.live_bytes),
        " (at most ", mib(now.peak_bytes), " so far), ", mib(now.held_bytes),
        " are held of the system, and it gives no more. Lower train.micro_batch_tokens, recompute "
        "layers, or spread the model over more ranks"));
  }

  Heap small_, large_;
  std::atomic<size_t> live_{0}, peak_{0};
};

// What libtorch had before the first switch, and whether there has been one.
std::atomic<c10::Allocator*> g_system{nullptr};

}  // namespace

c10::Allocator& caching_allocator() { return CachingAllocator::get(); }

void set_cpu_allocator(const std::string& name) {
  VEOMNI_CHECK_CONFIG(name == "caching" || name == "system", "memory.allocator: '", name,
                      "' is none of caching, system");
  const bool caching = name == "caching" && !kAddressSanitizer;
  c10::Allocator* system = g_system;
  if (!caching && !system) return;
  if (!system) system = c10::GetAllocator(c10::kCPU);
  c10::Allocator* wanted = caching ? &caching_allocator() : system;
  constexpr uint8_t kPriority = 1;  // above libtorch's own
  c10::SetAllocator(c10::kCPU, wanted, kPriority);
  VEOMNI_CHECK(c10::GetAllocator(c10::kCPU) == wanted,
               "memory.allocator: the allocator of CPU tensors is wrapped already (by an "
               "AllocationCounter?); choose it before");
  g_system = system;
}

std::optional<MemoryStats> memory_stats() {
  if (!g_system) return std::nullopt;
  return CachingAllocator::get().stats();
}

void empty_cache() {
  if (g_system) CachingAllocator::get().release_free();
}

}  // namespace veomni::ops
