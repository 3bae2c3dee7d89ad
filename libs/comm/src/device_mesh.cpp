// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/device_mesh.h"

namespace veomni {

namespace {

struct Axis {
  const char* name;
  int size;
};

std::vector<Axis> axes_of(const MeshShape& shape) {
  return {{"dp_replicate", shape.dp_replicate}, {"dp_shard", shape.dp_shard}, {"sp", shape.sp}};
}

}  // namespace

MeshShape resolve_mesh(const MeshShape& shape, int world) {
  VEOMNI_CHECK_CONFIG(shape.dp_replicate >= 1 && shape.dp_shard >= 0 && shape.sp >= 1,
                      "mesh sizes must be positive; got ", "dp_replicate=", shape.dp_replicate,
                      " dp_shard=", shape.dp_shard, " sp=", shape.sp);
  MeshShape resolved = shape;
  const int64_t others = int64_t{shape.dp_replicate} * shape.sp;
  if (resolved.dp_shard == 0) {
    VEOMNI_CHECK_CONFIG(world % others == 0, "mesh.dp_replicate=", shape.dp_replicate,
                        " x mesh.sp=", shape.sp, " does not divide the job's ", world,
                        " ranks; start a multiple of ", others, " ranks");
    resolved.dp_shard = static_cast<int>(world / others);
  }
  VEOMNI_CHECK_CONFIG(others * resolved.dp_shard == world,
                      "mesh.dp_replicate=", resolved.dp_replicate,
                      " x mesh.dp_shard=", resolved.dp_shard, " x mesh.sp=", resolved.sp, " is ",
                      others * resolved.dp_shard, ", but the job has ", world,
                      " ranks; leave mesh.dp_shard out, or start that many");
  return resolved;
}

DeviceMesh::DeviceMesh(std::shared_ptr<Communicator> world, const MeshShape& shape)
    : world_(std::move(world)), shape_(resolve_mesh(shape, world_->size())) {
  const auto axes = axes_of(shape_);
  const unsigned all = (1u << axes.size()) - 1;
  for (unsigned chosen = 1; chosen < all; ++chosen) {
    // Ranks that differ only along the chosen axes share a color: the number their other
    // coordinates spell.
    std::string name;
    int color = 0, below = world_->size();
    for (size_t a = 0; a < axes.size(); ++a) {
      below /= axes[a].size;
      if (chosen >> a & 1) {
        name += (name.empty() ? "" : "_") + std::string(axes[a].name);
      } else {
        color = color * axes[a].size + world_->rank() / below % axes[a].size;
      }
    }
    groups_[name] = world_->split(color, name);
  }
  groups_["dp_replicate_dp_shard_sp"] = world_;
  groups_["world"] = world_;
}

const std::shared_ptr<Communicator>& DeviceMesh::communicator(const std::string& axis) const {
  auto found = groups_.find(axis);
  if (found != groups_.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [name, group] : groups_) known.push_back(name);
  throw_error(unknown_name_message("mesh axis", axis, known));
}

std::string DeviceMesh::describe() const {
  std::string text;
  for (const auto& axis : axes_of(shape_)) {
    text += detail::concat(text.empty() ? "" : " x ", axis.name, " ", axis.size);
  }
  return text;
}

}  // namespace veomni
