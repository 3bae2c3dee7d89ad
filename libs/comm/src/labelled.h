// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string>

namespace veomni {

/// What an exception says, without the C++ trace that libtorch's carry.
std::string message_of(const std::exception_ptr& error);

/// Throws it again with the rank in front: AbortedError and ConfigError stay what they are, all else becomes an Error. A
/// job of one rank has no label.
[[noreturn]] void rethrow_labelled(const std::exception_ptr& error, int rank, int size);

}  // namespace veomni
