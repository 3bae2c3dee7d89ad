// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/digest.h"

#include <fmt/format.h>
#include <xxhash.h>

namespace veomni::io {

std::string digest(const void* data, size_t size) {
  const XXH128_hash_t hash = XXH3_128bits(data, size);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace veomni::io
