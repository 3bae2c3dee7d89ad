// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace veomni::media {

enum class FileKind { kUnknown, kJpeg, kPng, kWebp, kGif, kWav, kFlac, kMp3, kOgg, kOther };

/// What a file is by its first bytes, and its name for messages: "a JPEG", "a PDF", "of an unknown kind (89 50 …)".
struct KindOfFile {
  FileKind kind = FileKind::kUnknown;
  std::string name;
};

KindOfFile kind_of(std::span<const std::byte> file);

}  // namespace veomni::media
