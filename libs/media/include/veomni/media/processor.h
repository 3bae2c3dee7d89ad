// SPDX-License-Identifier: Apache-2.0
/// From the bytes of a media file to what a model reads, and back.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "veomni/base/error.h"
#include "veomni/media/features.h"

namespace veomni::media {

/// A file that is not the picture or clip it claims to be, or breaks a limit. what() is "<where>: <reason>".
class BadMedia : public Error {
 public:
  using Error::Error;
};

/// Belongs to one encoder or decoder, knows its sizes. Thread-safe: loader threads share one.
class Processor {
 public:
  virtual ~Processor() = default;

  /// Decodes a file's bytes and prepares them. @param where  names the file in messages
  /// @throws BadMedia
  virtual Features process(std::span<const std::byte> file, const std::string& where) const = 0;

  /// Decoders only: one item's values (as in Features::values) back to a file's bytes (PNG, WAV).
  /// @throws Error where there is no way back
  virtual std::vector<std::byte> postprocess(std::span<const float> values, const Grid& grid) const;
  /// Of postprocess()'s file, without a dot: "png".
  virtual std::string extension() const { return ""; }
};

}  // namespace veomni::media
