// SPDX-License-Identifier: Apache-2.0
/// Counts the bytes that pass through c10's allocators, on the CPU and on meta: memory known before
/// launch.
#pragma once

#include <c10/core/DeviceType.h>

#include <cstdint>

namespace veomni::ops {

struct AllocationStats {
  int64_t total_bytes = 0;      ///< asked for since the counter's start
  int64_t live_bytes = 0;       ///< of those, not yet freed
  int64_t peak_bytes = 0;       ///< highest live_bytes
  int64_t num_allocations = 0;  ///< of more than 0 bytes
};

/// Counts from construction (or reset()) to destruction. Any number may be alive at once. Blocks
/// that are older than the counter are ignored when freed. While no counter is alive the wrappers
/// pass everything through.
///
/// The first one wraps the allocators of kCPU and kMeta that are installed at that moment; an
/// allocator of the program's own must be set before. Thread-safe.
class AllocationCounter {
 public:
  enum class Scope {
    kProcess,  ///< all threads
    kThread,  ///< blocks asked for by the constructing thread (a rank under `local`), whoever frees
              ///< them
  };
  explicit AllocationCounter(Scope scope = Scope::kProcess);
  ~AllocationCounter();
  AllocationCounter(const AllocationCounter&) = delete;
  AllocationCounter& operator=(const AllocationCounter&) = delete;

  /// Everything but what ATen's CPU kernels took for themselves. Equal on CPU and meta for the ops
  /// of this library. Autograd's own sums of a tensor's gradients are live while they live, but not
  /// in total_bytes: whether such a sum reuses a summand depends on the device.
  AllocationStats stats(c10::DeviceType device) const;
  /// Taken inside AtenScope: temporaries of ATen's CPU kernels, which do not exist on meta.
  AllocationStats aten_stats(c10::DeviceType device) const;
  void reset();

  struct Window;  ///< what one counter has seen; opaque

 private:
  Window* window_;
};

/// Marks the thread's allocations as ATen's own for the scope's life. Put around ATen kernels that
/// write into tensors allocated before.
class AtenScope {
 public:
  AtenScope();
  ~AtenScope();
  AtenScope(const AtenScope&) = delete;
  AtenScope& operator=(const AtenScope&) = delete;
};

}  // namespace veomni::ops
