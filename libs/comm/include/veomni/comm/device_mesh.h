// SPDX-License-Identifier: Apache-2.0
/// The job's ranks as a grid with named axes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "veomni/base/fields.h"
#include "veomni/comm/communicator.h"

namespace veomni {

/// Section `mesh` of a recipe. Outermost axis first: neighbours in rank share an sp group.
struct MeshShape {
  int dp_replicate = 1;
  int dp_shard = 0;  ///< 0: world / (dp_replicate * sp)
  int sp = 1;

  bool operator==(const MeshShape&) const = default;
};
template <typename Visitor> void visit_fields(Visitor& v, MeshShape& o) {
  v("dp_replicate", o.dp_replicate, "groups that hold the same parameters", at_least(1));
  v("dp_shard", o.dp_shard,
    "ranks that share out one set of parameters; 0: what the other axes leave", at_least(0));
  v("sp", o.sp, "ranks that share out the tokens of one sequence", at_least(1));
}

/// Fills in dp_shard. Pure.
/// @throws ConfigError if the axes do not multiply to `world`
MeshShape resolve_mesh(const MeshShape& shape, int world);

/// Names of axes, and of flattened neighbours joined by '_' ("dp_shard_sp"); "world" is all of
/// them. An axis of size 1 is legal and has a communicator of size 1.
class DeviceMesh {
 public:
  /// Every rank of `world` must construct the mesh (it splits communicators).
  /// @throws ConfigError if the axes do not multiply to the world's size
  DeviceMesh(std::shared_ptr<Communicator> world, const MeshShape& shape);

  /// The resolved sizes.
  const MeshShape& shape() const { return shape_; }
  int world_size() const { return world_->size(); }

  /// Ranks along `axis` ("dp_shard", "dp_shard_sp", "world", …) and this rank's place among them.
  /// @throws veomni::Error naming the axes for an unknown one
  int size(const std::string& axis) const { return communicator(axis)->size(); }
  int coordinate(const std::string& axis) const { return communicator(axis)->rank(); }

  const std::shared_ptr<Communicator>& communicator(const std::string& axis) const;

  /// "dp_replicate 1 x dp_shard 4 x sp 1"
  std::string describe() const;

 private:
  std::shared_ptr<Communicator> world_;
  MeshShape shape_;
  std::map<std::string, std::shared_ptr<Communicator>> groups_;
};

}  // namespace veomni
