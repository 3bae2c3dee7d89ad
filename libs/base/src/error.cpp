// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/error.h"

#include "veomni/base/context.h"

namespace veomni {

void throw_error(const std::string& message) { throw Error(thread_context().label + message); }
void throw_config_error(const std::string& message) {
  throw ConfigError(thread_context().label + message);
}

namespace detail {
void fail_dcheck(const char* file, int line, const char* condition) {
  throw std::logic_error(
      concat(thread_context().label, file, ":", line, ": internal check failed: ", condition));
}
}  // namespace detail

}  // namespace veomni
