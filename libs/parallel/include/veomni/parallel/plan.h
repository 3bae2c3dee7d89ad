// SPDX-License-Identifier: Apache-2.0
/// What a recipe decides about each unit of a model, and the doing of it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "veomni/base/fields.h"
#include "veomni/comm/device_mesh.h"
#include "veomni/nn/module.h"
#include "veomni/parallel/fully_shard.h"

namespace veomni::parallel {

/// Another factoring of the same data-parallel ranks for some modules. 0: what the other leaves.
struct ModuleMesh {
  int dp_replicate = 1;
  int dp_shard = 0;

  bool operator==(const ModuleMesh&) const = default;
};
template <typename Visitor> void visit_fields(Visitor& v, ModuleMesh& o) {
  v("dp_replicate", o.dp_replicate, "groups that hold the same parameters", at_least(1));
  v("dp_shard", o.dp_shard, "ranks that share out one copy; 0: what dp_replicate leaves",
    at_least(0));
}

/// Section `parallel.default`.
struct ModuleParallelOptions {
  std::string strategy = "fsdp2";
  std::optional<ModuleMesh> mesh = std::nullopt;  ///< none: the job's
  bool reshard_after_forward = true;
  bool reshard_after_backward = true;
  bool prefetch = true;
  double bucket_mib = 25;
  std::vector<std::string> recompute = {"none"};
  std::string param_dtype;   ///< "": as the model was built
  std::string reduce_dtype;  ///< "": max(fp32, param_dtype)

  bool operator==(const ModuleParallelOptions&) const = default;
};

/// A section `parallel.modules.PATTERN`: what it leaves out stays as it was.
struct ModuleParallelOverrides {
  std::optional<std::string> strategy;
  std::optional<ModuleMesh> mesh;
  std::optional<bool> reshard_after_forward, reshard_after_backward, prefetch;
  std::optional<double> bucket_mib;
  std::optional<std::vector<std::string>> recompute;
  std::optional<std::string> param_dtype, reduce_dtype;
};

/// Section `parallel`. A unit takes the default, then every entry whose pattern (* stands for any
/// run of characters) matches the unit's path or that of a module around it: outer modules first,
/// shorter patterns first.
struct ParallelOptions {
  ModuleParallelOptions defaults;
  std::map<std::string, ModuleParallelOverrides> modules;
};

/// `strategy`, `reshard_after_forward`, … of defaults and overrides alike.
template <typename Visitor, typename Options> void visit_module_fields(Visitor& v, Options& o) {
  v("strategy", o.strategy,
    "fsdp2: each rank keeps some rows of every parameter; fsdp1: some of each unit's parameters "
    "end "
    "to end; hsdp: fsdp2 whose mesh has replicas; ddp: each keeps all, gradients are summed in "
    "buckets during backward; replicate: unit by unit",
    one_of({"fsdp2", "fsdp1", "hsdp", "ddp", "replicate"}));
  v("mesh", o.mesh, "the data-parallel ranks laid out differently; left out: the job's mesh");
  v("reshard_after_forward", o.reshard_after_forward,
    "free a unit's full parameters between its forward and its backward (fsdp1, fsdp2, hsdp)");
  v("reshard_after_backward", o.reshard_after_backward,
    "free them after the backward of every micro-batch; false: after the step's last");
  v("prefetch", o.prefetch, "start gathering a unit while the one before it runs");
  v("bucket_mib", o.bucket_mib, "MiB of gradients that are summed together (ddp)", more_than(0));
  v("recompute", o.recompute,
    "none, layer (every unit right below the root), or a list of unit names or path patterns: run "
    "the forward again in backward instead of keeping activations");
  v("param_dtype", o.param_dtype, "dtype parameters are computed in; empty: the model's");
  v("reduce_dtype", o.reduce_dtype, "dtype gradients travel in; empty: at least float32");
}
template <typename Visitor> void visit_fields(Visitor& v, ModuleParallelOptions& o) {
  visit_module_fields(v, o);
}
template <typename Visitor> void visit_fields(Visitor& v, ModuleParallelOverrides& o) {
  visit_module_fields(v, o);
}
template <typename Visitor> void visit_fields(Visitor& v, ParallelOptions& o) {
  v("default", o.defaults, "how every part of the model is spread");
  v("modules", o.modules, "exceptions by module path");
}

/// The decision for one unit.
struct UnitPlan {
  std::string path;
  std::string strategy;
  MeshShape mesh;                      ///< resolved: the job's, or the unit's own
  std::string placement;               ///< by mesh axis: "Replicate, Shard(0)"
  bool reshard_after_forward = false;  ///< always false for a root unit
  bool reshard_after_backward = true;
  bool prefetch = false;
  int64_t bucket_bytes = 0;  ///< 0: not in buckets
  bool recompute = false;
  /// Undefined: as the model was built.
  torch::ScalarType param_dtype = torch::ScalarType::Undefined;
  /// Undefined: the one gradients accumulate in.
  torch::ScalarType reduce_dtype = torch::ScalarType::Undefined;
  int64_t numel = 0;           ///< elements of the unit's own parameters
  int64_t gathered_bytes = 0;  ///< all of them in compute dtype
  int64_t local_numel = 0;     ///< kept by rank 0
  /// Of those: compute copy, and for what trains master (where it is not the same) and gradient.
  int64_t local_bytes = 0;

  bool operator==(const UnitPlan&) const = default;
};

struct ParallelPlan {
  MeshShape mesh;
  std::vector<UnitPlan> units;  ///< parents first

  /// A table for people (`--print-plan`): units that are alike in a row share a line.
  std::string describe() const;
};

/// Decides without doing anything; the same on every rank.
/// @param mesh  resolved (see resolve_mesh)
/// @throws ConfigError for a pattern or recompute name that matches nothing (the nearest paths are
///     named) or no unit, a mesh that does not multiply to the ranks or that this build lacks, a dtype
///     unknown, a parameter outside every Unit or inside two
ParallelPlan make_plan(nn::Module& root, const MeshShape& mesh, const ParallelOptions& options);

struct Parallelized {
  ParallelPlan plan;
  std::shared_ptr<StepState> state;  ///< for stats_of and DeferGradientSync
  /// All ranks over which parameters and data are spread: for gradient_norm, full_gradient,
  /// full_master.
  std::shared_ptr<Communicator> group;
};

/// Carries out make_plan's decisions: parameter dtypes, shards, interceptors. For a model on meta;
/// then materialize it. Call it after set_trainable: fsdp1 keeps what trains apart, and the plan
/// counts bytes by it.
/// @throws as make_plan, and veomni::Error if the model has memory already
Parallelized parallelize(nn::Module& root, const DeviceMesh& mesh, const ParallelOptions& options);

}  // namespace veomni::parallel
