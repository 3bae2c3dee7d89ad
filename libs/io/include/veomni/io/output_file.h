// SPDX-License-Identifier: Apache-2.0
/// Files that are complete or absent: written beside, then renamed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace veomni::io {

struct WriteOptions {
  bool atomic =
      true;  ///< write `<path>.tmp` and rename it when complete; false: write `path` itself
  bool fsync =
      false;  ///< on the disk before it counts as written (the file, and its directory's entry)
};

/// One file being written. Not copied, not shared between threads.
///
/// Every failing system call is an Error "cannot write <path>: <cause>" (a full disk: "No space left
/// on device"). An OutputFile that dies before commit() removes what it wrote.
class OutputFile {
 public:
  /// @throws Error naming path and cause
  explicit OutputFile(std::string path, WriteOptions options = {});
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  OutputFile& operator=(OutputFile&&) = delete;

  /// Writes at a byte offset; holes between writes read as zeros.
  void write_at(uint64_t offset, std::span<const std::byte> bytes);

  /// Makes the file appear under its name. No write after it.
  void commit();

  const std::string& path() const { return path_; }

 private:
  [[noreturn]] void fail(const char* action, int error) const;
  void remove_written() const;

  std::string path_;
  std::string written_path_;  // path_, or path_ + ".tmp"
  WriteOptions options_;
  int fd_ = -1;
};

/// Writes a whole small file. @throws Error naming path and cause
void write_file(const std::string& path, std::string_view text, WriteOptions options = {});

/// Makes a directory's entries (renames, new files) durable. @throws Error naming path and cause
void sync_directory(const std::string& path);

}  // namespace veomni::io
