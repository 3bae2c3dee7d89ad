// SPDX-License-Identifier: Apache-2.0
#include "process/header.h"

#include <algorithm>
#include <cstring>

namespace veomni::process {

void write_header(char* to, const Offer& offer, int size) {
  std::memcpy(to, offer.signature, sizeof(Signature));
  auto* splits = reinterpret_cast<int64_t*>(to + sizeof(Signature));
  std::copy(offer.in_splits.begin(), offer.in_splits.end(), splits);
  std::copy(offer.out_splits.begin(), offer.out_splits.end(), splits + size);
}

Offer read_header(const char* from, int size) {
  Offer offer{reinterpret_cast<const Signature*>(from), {}, {}};
  if (offer.signature->operation == Operation::kAllToAll) {
    const auto* splits = reinterpret_cast<const int64_t*>(from + sizeof(Signature));
    offer.in_splits = {splits, static_cast<size_t>(size)};
    offer.out_splits = {splits + size, static_cast<size_t>(size)};
  }
  return offer;
}

}  // namespace veomni::process
