// SPDX-License-Identifier: Apache-2.0
/// Where each record of a text file starts.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace veomni::data {

/// A file and its records: runs of bytes between separators.
class RecordIndex {
 public:
  enum class Separator { kLine, kBlankLine };

  /// Reads the file once. Lines of nothing but spaces, tabs and '\r' are blank and start no record.
  /// @throws ConfigError if it cannot be read.
  RecordIndex(std::string file, Separator separator);

  const std::string& file() const { return file_; }
  int64_t size() const { return static_cast<int64_t>(begin_.size()); }
  /// First byte of the record.
  int64_t begin(int64_t record) const { return begin_[record]; }
  /// Bytes up to the next record or the end, separators included.
  int64_t extent(int64_t record) const {
    return (record + 1 < size() ? begin_[record + 1] : file_bytes_) - begin_[record];
  }
  /// 1-based line of the record's first byte.
  int64_t line(int64_t record) const;

 private:
  void take_line(int64_t begin, bool blank, Separator separator);

  std::string file_;
  int64_t file_bytes_ = 0;
  std::vector<int64_t> begin_;
  // Line numbers where they do not simply go on from the record before: (record, line).
  std::vector<std::pair<int64_t, int64_t>> line_jumps_;
  int64_t lines_seen_ = 0;
  bool after_blank_ = true;
};

}  // namespace veomni::data
