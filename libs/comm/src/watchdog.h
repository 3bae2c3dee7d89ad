// SPDX-License-Identifier: Apache-2.0
/// The process's list of rings, and the thread that looks for calls that are overdue.
#pragma once

namespace veomni {

class Flight;

/// Starts the thread with the first ring.
void watch_flight(Flight* flight);
/// Returns when nothing uses the ring any more.
void unwatch_flight(Flight* flight);

}  // namespace veomni
