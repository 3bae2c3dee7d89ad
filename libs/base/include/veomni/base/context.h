// SPDX-License-Identifier: Apache-2.0
/// What a thread says of itself in messages. `base` does not know what a rank is: `comm` sets this.
#pragma once

#include <string>

namespace veomni {

/// A label put before every message of this thread, and whether this thread speaks for the job.
struct ThreadContext {
  std::string label;    ///< "[rank 3/8] ", or empty
  bool primary = true;  ///< false: log::info stays silent (rank 0 speaks once for all)
  int worker = 0;       ///< whose work it does: a rank of the job; sorts what base/trace.h records
};

/// The calling thread's context.
const ThreadContext& thread_context();

/// Sets the calling thread's context for the scope's life and restores the one before. Pools pass theirs on with it.
class ThreadContextScope {
 public:
  explicit ThreadContextScope(ThreadContext context);
  ~ThreadContextScope();
  ThreadContextScope(const ThreadContextScope&) = delete;
  ThreadContextScope& operator=(const ThreadContextScope&) = delete;

 private:
  ThreadContext before_;
};

}  // namespace veomni
