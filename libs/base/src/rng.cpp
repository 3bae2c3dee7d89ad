// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/rng.h"

#include <cmath>
#include <numbers>

namespace veomni {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

namespace {
// One Philox round trip mixes the parts of a key, so that (a, b) and (b, a) give unrelated streams.
uint64_t mix(uint64_t state, uint64_t value) {
  const auto out =
      philox4x32({static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32), 0x76656f6d, 0},
                 {static_cast<uint32_t>(state), static_cast<uint32_t>(state >> 32)});
  return out[0] | uint64_t{out[1]} << 32;
}
}  // namespace

KeyedRng::KeyedRng(uint64_t seed, std::string_view purpose, uint64_t a, uint64_t b) {
  const uint64_t key = mix(mix(seed, hash_name(purpose)), a);
  const uint64_t high = mix(key, b);
  key_ = {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
  high_ = {static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32)};
}

std::array<uint32_t, 4> KeyedRng::block(uint64_t index) const {
  return philox4x32(
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), high_[0], high_[1]}, key_);
}

uint32_t KeyedRng::bits_at(uint64_t index) const { return block(index)[0]; }

double KeyedRng::uniform_at(uint64_t index) const {
  const auto words = block(index);
  const uint64_t bits = (words[0] | uint64_t{words[1]} << 32) >> 11;
  return static_cast<double>(bits) * 0x1.0p-53;
}

double KeyedRng::normal_at(uint64_t index) const {
  const auto words = block(index);
  const uint64_t first = (words[0] | uint64_t{words[1]} << 32) >> 11;
  const uint64_t second = (words[2] | uint64_t{words[3]} << 32) >> 11;
  const double radius = std::sqrt(-2.0 * std::log((static_cast<double>(first) + 1.0) * 0x1.0p-53));
  return radius * std::cos(2.0 * std::numbers::pi * static_cast<double>(second) * 0x1.0p-53);
}

uint64_t KeyedRng::below(uint64_t bound) {
  const auto words = block(next_++);
  const uint64_t bits = words[0] | uint64_t{words[1]} << 32;
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * bound) >> 64);
}

}  // namespace veomni
