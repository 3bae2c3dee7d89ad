// SPDX-License-Identifier: Apache-2.0
/// An offer as bytes of one size for all ranks of a group.
#pragma once

#include <vector>

#include "call.h"

namespace veomni::process {

inline size_t header_bytes(int size) {
  return (sizeof(Signature) + 2 * sizeof(int64_t) * static_cast<size_t>(size) + 63) / 64 * 64;
}

/// `to` has header_bytes(size), is 8-byte aligned and outlives offers read from it.
void write_header(char* to, const Offer& offer, int size);
Offer read_header(const char* from, int size);

}  // namespace veomni::process
