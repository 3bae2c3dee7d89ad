// SPDX-License-Identifier: Apache-2.0
/// A trace in the format that chrome://tracing and Perfetto open.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "veomni/base/trace.h"

namespace veomni::train {

/// Spans as complete events ("ph": "X"), the rank as pid, the thread as tid, times in µs. Between calls of add() the file is
/// whole: a run that dies later leaves valid JSON.
class TraceFile {
 public:
  /// Replaces the file. @param origin_ns  time 0 of the file, on Event's clock
  /// @throws veomni::Error naming path and cause, as does add()
  TraceFile(std::string path, int rank, int64_t origin_ns);

  void add(const std::vector<trace::ThreadEvents>& threads);

  const std::string& path() const { return path_; }

 private:
  /// Writes items ("{…}, {…}") behind those before and closes the JSON again.
  void append(const std::string& items);

  std::string path_;
  int rank_;
  int64_t origin_ns_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  long end_ = 0;  ///< where the next item goes: over the closing brackets
  std::vector<int> named_threads_;
};

}  // namespace veomni::train
