// SPDX-License-Identifier: Apache-2.0
/// Failures a user or a peer can cause, and checks that raise them.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace veomni {

/// Something went wrong at run time: a broken file, a lost peer, a full disk. The program ends with exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The user's mistake, found before any work starts: a wrong recipe key, a missing file, a shape that does not fit.
/// The program prints the one line and ends with exit code 2.
class ConfigError : public Error {
 public:
  using Error::Error;
};

namespace detail {
template <typename... Args> std::string concat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}
[[noreturn]] void fail_dcheck(const char* file, int line, const char* condition);
}  // namespace detail

/// Throws Error with the concatenated arguments, prefixed by the thread's context ("[rank 3/8] ").
[[noreturn]] void throw_error(const std::string& message);
/// Throws ConfigError likewise.
[[noreturn]] void throw_config_error(const std::string& message);

}  // namespace veomni

/// For what a file, a user or a peer can cause. The message says what, where, the value seen and the cure.
#define VEOMNI_CHECK(condition, ...)     \
  (static_cast<bool>(condition) ? void() \
                                : ::veomni::throw_error(::veomni::detail::concat(__VA_ARGS__)))

/// For the user's mistakes, checked before any work.
#define VEOMNI_CHECK_CONFIG(condition, ...) \
  (static_cast<bool>(condition)             \
       ? void()                             \
       : ::veomni::throw_config_error(::veomni::detail::concat(__VA_ARGS__)))

/// For our own bugs; compiled out of release builds.
#ifdef NDEBUG
#define VEOMNI_DCHECK(condition) void()
#else
#define VEOMNI_DCHECK(condition)         \
  (static_cast<bool>(condition) ? void() \
                                : ::veomni::detail::fail_dcheck(__FILE__, __LINE__, #condition))
#endif
