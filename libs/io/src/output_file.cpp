// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "veomni/base/error.h"

namespace veomni::io {

OutputFile::OutputFile(std::string path, WriteOptions options)
    : path_(std::move(path)),
      written_path_(options.atomic ? path_ + ".tmp" : path_),
      options_(options) {
  fd_ = ::open(written_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail("create", errno);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      written_path_(std::move(other.written_path_)),
      options_(other.options_),
      fd_(std::exchange(other.fd_, -1)) {}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  remove_written();
}

void OutputFile::remove_written() const {
  std::error_code ignored;
  // Never a device such as /dev/full.
  if (std::filesystem::is_regular_file(written_path_, ignored)) ::unlink(written_path_.c_str());
}

void OutputFile::fail(const char* action, int error) const {
  throw_error(std::string("cannot ") + action + " " + written_path_ + ": " + std::strerror(error));
}

void OutputFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  // Linux writes at most 0x7ffff000 bytes a call.
  constexpr size_t kPiece = size_t{1} << 30;
  while (!bytes.empty()) {
    const size_t size = std::min(bytes.size(), kPiece);
    const ssize_t written = ::pwrite(fd_, bytes.data(), size, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("write", written < 0 ? errno : EIO);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
}

void OutputFile::commit() {
  if (options_.fsync && ::fsync(fd_) != 0) fail("sync", errno);
  if (::close(std::exchange(fd_, -1)) != 0) {
    const int error = errno;  // network file systems report a full disk here
    remove_written();
    fail("close", error);
  }
  if (options_.atomic && std::rename(written_path_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    remove_written();
    fail("rename", error);
  }
  if (options_.fsync) {
    const std::string directory = std::filesystem::path(path_).parent_path().string();
    sync_directory(directory.empty() ? "." : directory);
  }
}

void write_file(const std::string& path, std::string_view text, WriteOptions options) {
  OutputFile file(path, options);
  file.write_at(0, std::as_bytes(std::span(text)));
  file.commit();
}

void sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  VEOMNI_CHECK(synced, "cannot sync directory ", path, ": ", std::strerror(error));
}

}  // namespace veomni::io
