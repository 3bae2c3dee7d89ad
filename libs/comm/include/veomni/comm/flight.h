// SPDX-License-Identifier: Apache-2.0
/// The flight recorder: what the ranks of this process last asked of their communicators, for the
/// report of a job that stopped.
///
/// Every rank has a ring of its last 256 calls, in every backend; recording neither allocates nor
/// locks. A watchdog thread, one a process, aborts a job when a call has run for a second longer
/// than its time-out: the message is the call's.
#pragma once

#include <string>
#include <vector>

namespace veomni {

/// Names what asks for the collectives that this thread makes while the scope lives: the module
/// path of the Unit. Cheap; scopes nest, the innermost is recorded. At most 95 bytes are kept.
class CallLabel {
 public:
  /// `label` must outlive the scope.
  explicit CallLabel(const std::string& label);
  ~CallLabel();
  CallLabel(const CallLabel&) = delete;
  CallLabel& operator=(const CallLabel&) = delete;

 private:
  const char* before_;
};

/// World ranks that have a ring in this process, ascending: one, or all with backend `local`.
std::vector<int> flight_ranks();

/// Writes the ring of `rank`, oldest call first, a line each, to `path`, replacing it: its number,
/// group, operation, dtypes and shape, bytes, label, state and times. Neither allocates nor locks:
/// fit for a signal handler. A call that is recorded meanwhile may be garbled.
/// @return false if there is no such ring or the file cannot be written
bool write_flight(const char* path, int rank) noexcept;

}  // namespace veomni
