// SPDX-License-Identifier: Apache-2.0
/// Faults at chosen collectives, for tests of what a job does when a rank fails.
#pragma once

#include <cstdint>
#include <string>

namespace veomni {

enum class FaultKind {
  kHang,  ///< the rank goes no further until the job is aborted
  kSkip,  ///< the rank does not make the call; its outputs stay as they are
  kKill   ///< SIGKILL to this process
};

struct Fault {
  int rank = 0;     ///< world rank
  int64_t seq = 0;  ///< its how-manieth collective, from 0, over all groups; splits do not count
  FaultKind kind = FaultKind::kHang;
  /// Once all ranks have arrived, instead of before this one calls. Not for kSkip, nor backend
  /// `local`.
  bool inside = false;
};

/// "rank=1,seq=20,kind=skip", and ",at=inside" if wanted.
/// @throws ConfigError naming the key and what it may be
Fault parse_fault(const std::string& text);

/// Holds for the ranks of this process until clear_faults(). Beside those injected here, the
/// faults of the environment variable VEOMNI_FAULT (joined by ';') are, when the process's first
/// communicator is made; a wrong one is a ConfigError there.
void inject_fault(const Fault& fault);
void clear_faults();

}  // namespace veomni
