// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/rank_scope.h"

#include "veomni/base/error.h"

namespace veomni {

std::string rank_label(int rank, int size) {
  return detail::concat("[rank ", rank, "/", size, "] ");
}

RankScope::RankScope(int rank, int size)
    : scope_({.label = size == 1 ? "" : rank_label(rank, size),
              .primary = rank == 0,
              .worker = rank}) {}

}  // namespace veomni
