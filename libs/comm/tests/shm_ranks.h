// SPDX-License-Identifier: Apache-2.0
/// Worlds of backend `shm` for tests.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "veomni/comm/communicator.h"

namespace veomni::testing_shm {

/// A name no other world of this test run has; equal in all processes of a job of
/// run_rank_processes.
std::string next_name();

/// Ranks as threads that share nothing but the segment; throws as run_ranks does.
void run_threads(int size, std::chrono::milliseconds timeout,
                 const std::function<void(Communicator&)>& body);

/// This process, one of run_rank_processes, is one rank.
void run_process(int size, std::chrono::milliseconds timeout,
                 const std::function<void(Communicator&)>& body);

}  // namespace veomni::testing_shm
