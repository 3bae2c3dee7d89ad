// SPDX-License-Identifier: Apache-2.0
#include "veomni/base/log.h"

#include <atomic>
#include <cstdio>
#include <mutex>
#include <utility>

#include "veomni/base/context.h"

namespace veomni::log {

namespace {
std::atomic<Level> least{Level::kInfo};
std::mutex sink_mutex;
Sink current_sink;

const char* prefix(Level level) {
  switch (level) {
    case Level::kDebug: return "debug: ";
    case Level::kInfo: return "";
    case Level::kWarn: return "warning: ";
    case Level::kError: return "error: ";
  }
  return "";
}
}  // namespace

void set_level(Level level) { least = level; }

Sink set_sink(Sink sink) {
  std::lock_guard lock(sink_mutex);
  return std::exchange(current_sink, std::move(sink));
}

void write(Level level, const std::string& message) {
  if (level < least) return;
  const auto& context = thread_context();
  if (level <= Level::kInfo && !context.primary) return;
  // The label tells ranks apart where more than one speaks.
  const std::string line = prefix(level) + (level >= Level::kWarn ? context.label : "") + message;
  std::lock_guard lock(sink_mutex);
  if (current_sink) {
    current_sink(level, line);
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

}  // namespace veomni::log
