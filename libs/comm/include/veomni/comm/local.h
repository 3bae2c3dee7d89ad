// SPDX-License-Identifier: Apache-2.0
/// Backend `local`: the ranks are threads of one process. CPU tensors only.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "veomni/comm/communicator.h"

namespace veomni {

/// A job of `size` ranks; element r belongs to the thread of rank r.
///
/// Every rank copies or reduces its own part, straight between the ranks' tensors, inside wait():
/// nothing progresses between the call and its wait.
std::vector<std::shared_ptr<Communicator>> make_local_world(
    int size, std::chrono::milliseconds timeout = std::chrono::minutes(10));

/// A job of one rank, for programs that run alone.
std::shared_ptr<Communicator> make_single_communicator();

/// Tells the others that this rank makes no more calls: what waits for it fails at once instead of
/// at its time-out.
/// @throws veomni::Error if `comm` is not of backend `local`
void leave_local_world(Communicator& comm);

}  // namespace veomni
