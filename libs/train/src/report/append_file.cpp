// SPDX-License-Identifier: Apache-2.0
#include "report/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "veomni/base/error.h"

namespace veomni {

namespace {
int open_flags(AppendFile::Open how) {
  const int common = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  switch (how) {
    case AppendFile::Open::kEmpty: return common | O_TRUNC;
    case AppendFile::Open::kExtend: return common;
    case AppendFile::Open::kNew: return common | O_EXCL;
  }
  return common;
}
}  // namespace

AppendFile::AppendFile(std::string path, Open how)
    : path_(std::move(path)), fd_(::open(path_.c_str(), open_flags(how), 0644)) {
  if (fd_ < 0 && !(how == Open::kNew && errno == EEXIST)) fail("open", errno);
}

AppendFile::~AppendFile() {
  if (valid()) ::close(fd_);
}

void AppendFile::append(std::string_view record) {
  size_t done = 0;
  while (done < record.size()) {
    const ssize_t written = ::write(fd_, record.data() + done, record.size() - done);
    if (written >= 0) {
      done += static_cast<size_t>(written);
    } else if (errno != EINTR) {
      const int reason = errno;
      const off_t end = ::lseek(fd_, 0, SEEK_END);
      // A failure here leaves a torn last record, which readers tolerate.
      const bool cut = done > 0 && ::ftruncate(fd_, end - static_cast<off_t>(done)) == 0;
      static_cast<void>(cut);
      fail("write", reason);
    }
  }
}

void AppendFile::truncate(int64_t size) {
  if (::ftruncate(fd_, size) != 0) fail("truncate", errno);
}

void AppendFile::fail(const char* action, int error) const {
  throw_error(std::string("cannot ") + action + " " + path_ + ": " + std::strerror(error));
}

}  // namespace veomni
