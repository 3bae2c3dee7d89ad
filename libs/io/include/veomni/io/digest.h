// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace veomni::io {

/// XXH3 of 128 bits, as 32 hexadecimal digits: tells bytes apart that differ by accident, not by intent.
std::string digest(const void* data, size_t size);

}  // namespace veomni::io
