// SPDX-License-Identifier: Apache-2.0
/// Which rank the calling thread works for, as its messages show it.
#pragma once

#include <string>

#include "veomni/base/context.h"

namespace veomni {

/// "[rank 3/8] "
std::string rank_label(int rank, int size);

/// Labels this thread's messages for the scope's life; rank 0 is primary (log::info speaks once for
/// all). A job of one rank has no label.
class RankScope {
 public:
  RankScope(int rank, int size);

 private:
  ThreadContextScope scope_;
};

}  // namespace veomni
