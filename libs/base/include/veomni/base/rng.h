// SPDX-License-Identifier: Apache-2.0
/// Randomness as a pure function of a key: the same noise in every layout, on resume and in recompute.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace veomni {

/// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11).
/// @returns four independent uniform 32-bit words for this (counter, key).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// A stable 64-bit hash of a name (FNV-1a), for keys made of names.
constexpr uint64_t hash_name(std::string_view name) {
  uint64_t hash = 14695981039346656037ULL;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

/// A stream of random numbers that belongs to (seed, purpose, a, b): e.g. (seed, "init", hash of a parameter's name),
/// (seed, "shuffle", epoch), (seed, "sample", sequence, position). Random access: `at(i)` needs no state.
/// Cheap to make; copies are independent. Never shared with ATen's default generator.
class KeyedRng {
 public:
  KeyedRng(uint64_t seed, std::string_view purpose, uint64_t a = 0, uint64_t b = 0);

  /// The i-th 32-bit word of the stream.
  uint32_t bits_at(uint64_t index) const;
  /// The i-th uniform double in [0, 1), 53 bits.
  double uniform_at(uint64_t index) const;
  /// The i-th standard normal (Box–Muller on two uniforms of the same block).
  double normal_at(uint64_t index) const;

  /// Sequential forms.
  double uniform() { return uniform_at(next_++); }
  double normal() { return normal_at(next_++); }
  /// Uniform in [0, bound), bound > 0, without modulo bias worth speaking of (64-bit multiply).
  uint64_t below(uint64_t bound);

 private:
  std::array<uint32_t, 4> block(uint64_t index) const;
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 2> high_;
  uint64_t next_ = 0;
};

}  // namespace veomni
