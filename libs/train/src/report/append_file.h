// SPDX-License-Identifier: Apache-2.0
/// A file that grows by whole records.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace veomni {

/// Unbuffered: a record appended is with the kernel, so it survives the death of the process.
/// Every failure is an Error that names the file and the system's reason.
class AppendFile {
 public:
  enum class Open {
    kEmpty,   ///< made, or emptied
    kExtend,  ///< made, or kept
    kNew,     ///< made; valid() is false where the file exists already
  };

  AppendFile(std::string path, Open how);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  bool valid() const { return fd_ >= 0; }
  const std::string& path() const { return path_; }

  /// Appends all of `record`; on failure cuts what got through of it off again, then throws.
  void append(std::string_view record);
  /// Cuts the file to `size` bytes.
  void truncate(int64_t size);

 private:
  [[noreturn]] void fail(const char* action, int error) const;
  std::string path_;
  int fd_;
};

}  // namespace veomni
