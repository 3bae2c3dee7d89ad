// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/context.h"

#include <utility>

namespace veomni {

namespace {
ThreadContext& mutable_context() {
  thread_local ThreadContext context;
  return context;
}
}  // namespace

const ThreadContext& thread_context() { return mutable_context(); }

ThreadContextScope::ThreadContextScope(ThreadContext context)
    : before_(std::exchange(mutable_context(), std::move(context))) {}

ThreadContextScope::~ThreadContextScope() { mutable_context() = std::move(before_); }

}  // namespace veomni
