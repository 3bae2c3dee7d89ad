// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "veomni/media/processor.h"

namespace veomni::media {

/// Throws BadMedia "<where>: <reason>".
template <typename... Args>
[[noreturn]] void bad_media(const std::string& where, const Args&... reason) {
  throw BadMedia(where + ": " + detail::concat(reason...));
}

}  // namespace veomni::media
