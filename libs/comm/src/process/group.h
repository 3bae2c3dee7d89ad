// SPDX-License-Identifier: Apache-2.0
/// The Communicator of every backend whose ranks are processes, over its Transport.
#pragma once

#include <memory>

#include "process/progress.h"
#include "process/transport.h"

namespace veomni::process {

/// The world's communicator of this rank. Its calls, and those of all groups split from it, are
/// run by one thread.
std::shared_ptr<Communicator> make_group_communicator(std::shared_ptr<Job> job,
                                                      std::shared_ptr<Transport> transport,
                                                      std::chrono::milliseconds timeout);

}  // namespace veomni::process
