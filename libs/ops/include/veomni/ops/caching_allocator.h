// SPDX-License-Identifier: Apache-2.0
/// The allocator of CPU tensors in training: keeps freed memory, in huge pages, so that a steady step faults no page.
///
/// glibc returns large temporaries to the kernel and faults them in again, page by page, every step. Here freed blocks
/// stay: best fit, large remainders split, neighbours coalesced. Blocks below and above kSmallBlock come from two
/// heaps, so that a scalar that stays does not break up the room of a large temporary. Every block begins at a multiple
/// of 64 bytes, and the 64 bytes after it may be read.
///
/// What it holds of the system is at most kSlack * peak live bytes + kSpareBytes in either heap, as far as a huge page
/// with a live byte in it can be helped: beyond that, free pages are given back before more is taken.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace c10 {
struct Allocator;
}

namespace veomni::ops {

/// As PyTorch's CUDA caching allocator divides them.
inline constexpr int64_t kSmallBlock = int64_t{1} << 20;
/// Traces of random large sizes and lifetimes end at 1.00 to 1.22 times their peak (Traces in heap_test.cpp records it),
/// a dense model's training at 1.01 (bench/memory). At a bound below what a step needs, pages would go and come every
/// step.
inline constexpr double kSlack = 1.5;
inline constexpr int64_t kSpareBytes = int64_t{64} << 20;

/// Of the caching allocator alone: memory of media decoding, communication and other C++ code is not in it.
struct MemoryStats {
  int64_t live_bytes = 0;  ///< of tensors, as they asked
  int64_t peak_bytes = 0;  ///< highest live_bytes since it was installed first
  int64_t held_bytes = 0;  ///< of the system, live and free, in whole huge pages
};

/// Who gives CPU tensors their memory from now on: "caching" or "system" (libtorch's own). Tensors made before keep
/// theirs, which goes back to where it came from. Built with AddressSanitizer, "caching" leaves the system's in place,
/// which sees errors that a cache hides. Call it while no other thread allocates.
///
/// @throws ConfigError for another word; Error if somebody wrapped the allocator before (an AllocationCounter): it is
///         to be made after
void set_cpu_allocator(const std::string& name);

/// Empty if the caching allocator never was installed. Thread-safe.
std::optional<MemoryStats> memory_stats();

/// Gives every huge page without a live byte back to the system. The next step faults what it uses in again.
/// Thread-safe; does nothing where nothing is cached.
void empty_cache();

/// The allocator itself, installed or not; lives for ever. allocate() throws Error when there is no more memory,
/// saying what was asked, live and held. Thread-safe. Not in a forked child of a process with several threads.
c10::Allocator& caching_allocator();

}  // namespace veomni::ops
