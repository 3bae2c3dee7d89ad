// SPDX-License-Identifier: Apache-2.0
#include "veomni/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "veomni/base/error.h"

namespace veomni::io {

namespace {
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};
}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  VEOMNI_CHECK_CONFIG(file.fd >= 0, "cannot open ", path, ": ", std::strerror(errno));
  struct stat status {};
  VEOMNI_CHECK(::fstat(file.fd, &status) == 0, "cannot stat ", path, ": ", std::strerror(errno));
  VEOMNI_CHECK_CONFIG(S_ISREG(status.st_mode), path, " is not a regular file");
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;  // mmap refuses length 0
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  VEOMNI_CHECK(data != MAP_FAILED, "cannot map ", path, ": ", std::strerror(errno));
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace veomni::io
