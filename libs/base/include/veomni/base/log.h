// SPDX-License-Identifier: Apache-2.0
/// A thin logger on {fmt}: one line a message, to standard error, thread-safe.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>

namespace veomni::log {

enum class Level { kDebug, kInfo, kWarn, kError };

/// Messages below `level` are dropped. Default kInfo.
void set_level(Level level);

/// Called with every line instead of writing it to standard error (tests; a progress line that must be cleared first).
/// An empty function restores the default. Returns the sink before. Not for use while other threads log.
using Sink = std::function<void(Level, const std::string& line)>;
Sink set_sink(Sink sink);

void write(Level level, const std::string& message);

/// For the person at the terminal: only the primary thread (rank 0) speaks.
template <typename... Args> void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
/// Something was skipped, repaired or is likely wrong; every rank speaks.
template <typename... Args> void warn(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kWarn, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args> void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args> void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace veomni::log
