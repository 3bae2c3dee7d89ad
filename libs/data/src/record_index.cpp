// SPDX-License-Identifier: Apache-2.0
#include "record_index.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "veomni/base/error.h"

namespace veomni::data {

namespace {
bool is_blank(const char* begin, const char* end) {
  return std::all_of(begin, end, [](char c) { return c == ' ' || c == '\t' || c == '\r'; });
}
}  // namespace

RecordIndex::RecordIndex(std::string file, Separator separator) : file_(std::move(file)) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::fopen(file_.c_str(), "rb"),
                                                           &std::fclose);
  VEOMNI_CHECK_CONFIG(in, "data file ", file_, ": cannot be opened: ", std::strerror(errno));
  std::vector<char> buffer(1 << 20);
  int64_t line_begin = 0;
  bool blank = true;  // what has been seen of the current line, which may span buffers
  while (const size_t got = std::fread(buffer.data(), 1, buffer.size(), in.get())) {
    const char* at = buffer.data();
    const char* const end = at + got;
    while (at < end) {
      const char* newline = static_cast<const char*>(std::memchr(at, '\n', end - at));
      const char* const stop = newline ? newline : end;
      blank = blank && is_blank(at, stop);
      if (!newline) break;
      take_line(line_begin, blank, separator);
      line_begin = file_bytes_ + (newline + 1 - buffer.data());
      blank = true;
      at = newline + 1;
    }
    file_bytes_ += static_cast<int64_t>(got);
  }
  VEOMNI_CHECK_CONFIG(!std::ferror(in.get()), "data file ", file_,
                      ": cannot be read: ", std::strerror(errno));
  if (line_begin < file_bytes_) take_line(line_begin, blank, separator);
}

void RecordIndex::take_line(int64_t begin, bool blank, Separator separator) {
  ++lines_seen_;
  const bool starts = !blank && (separator == Separator::kLine || after_blank_);
  after_blank_ = blank;
  if (!starts) return;
  const int64_t record = size();
  const int64_t expected = record == 0 ? 1 : line(record - 1) + 1;
  if (lines_seen_ != expected) line_jumps_.emplace_back(record, lines_seen_);
  begin_.push_back(begin);
}

int64_t RecordIndex::line(int64_t record) const {
  const auto after =
      std::upper_bound(line_jumps_.begin(), line_jumps_.end(), record,
                       [](int64_t value, const auto& jump) { return value < jump.first; });
  if (after == line_jumps_.begin()) return record + 1;
  const auto& [from, line] = *(after - 1);
  return line + (record - from);
}

}  // namespace veomni::data
