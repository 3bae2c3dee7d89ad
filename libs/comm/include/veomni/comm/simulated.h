// SPDX-License-Identifier: Apache-2.0
/// Backend `simulated`: one rank of a job of any size, without the others. For plans: what would be
/// communicated, and over which axis.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "veomni/comm/communicator.h"
#include "veomni/comm/device_mesh.h"

namespace veomni {

struct SimulatedCall {
  std::string operation;  ///< "all_gather", "reduce_scatter", …
  std::string group;      ///< the mesh axis, or "world"
  int group_size = 1;
  int64_t in_bytes = 0, out_bytes = 0;  ///< of all tensors of this rank
  /// That this rank must send at least, to ranks other than itself: (size - 1) blocks for
  /// all_gather, reduce_scatter and all_to_all (its splits'), twice (size - 1) / size for
  /// all_reduce, the tensor for a broadcast's root.
  int64_t sent_bytes = 0;
};

/// Tensors may be on `meta`, where nothing is written, or on the CPU. There outputs are as though
/// every other rank held zeros: a gather has zeros but for this rank's block, a sum or a maximum is
/// this rank's own, all_to_all delivers the rows this rank sends itself and zeros, broadcast leaves
/// the tensor. Calls are checked as by any backend; nothing ever waits.
struct SimulatedOptions {
  int rank = 0, size = 1;
  /// What split() makes, by name: it cannot know the others' colors. A name that is not listed
  /// makes a group of one.
  struct Group {
    std::string name;
    int rank = 0, size = 1;
  };
  std::vector<Group> groups;
};
std::shared_ptr<Communicator> make_simulated_world(const SimulatedOptions& options);

/// Rank `rank` of a job whose DeviceMesh will have `shape` (resolved): the groups are those the
/// mesh makes.
SimulatedOptions simulated_mesh(const MeshShape& shape, int rank);

/// Every call of the job of `comm` so far, splits and barriers included, in order.
/// @throws veomni::Error if `comm` is not of backend `simulated`
const std::vector<SimulatedCall>& simulated_calls(const Communicator& comm);

}  // namespace veomni
