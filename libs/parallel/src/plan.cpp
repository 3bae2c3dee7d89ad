// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/plan.h"

#include <algorithm>
#include <map>
#include <utility>

#include "param_block.h"
#include "veomni/base/error.h"
#include "veomni/nn/dtype.h"
#include "veomni/parallel/recompute.h"

namespace veomni::parallel {

namespace {

using nn::Unit;

/// "a.b.c" -> "", "a", "a.b", "a.b.c"
std::vector<std::string> paths_around(const std::string& path) {
  std::vector<std::string> around = {""};
  for (size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1)) {
    around.push_back(path.substr(0, dot));
  }
  if (!path.empty()) around.push_back(path);
  return around;
}

std::vector<std::string> module_paths(nn::Module& root) {
  std::vector<std::string> paths;
  root.visit([&](const std::string& path, nn::Module&) {
    if (!path.empty()) paths.push_back(path);
  });
  return paths;
}

[[noreturn]] void fail_pattern(const std::string& key, const std::string& pattern,
                               const std::vector<std::string>& paths) {
  const std::string nearest = nearest_name(pattern, paths);
  std::vector<std::string> outer;
  for (const auto& path : paths) {
    if (std::count(path.begin(), path.end(), '.') <= 1) outer.push_back(path);
  }
  if (outer.size() > 12) outer.resize(12);
  throw_config_error(detail::concat(key, ": '", pattern, "' matches nothing in the model",
                                    nearest.empty() ? "" : "; did you mean '" + nearest + "'?",
                                    " (paths: ", join(outer), ")"));
}

template <typename T> void override_with(T& value, const std::optional<T>& other) {
  if (other) value = *other;
}

ModuleParallelOptions options_for(const std::string& path, const ParallelOptions& options) {
  std::vector<std::string> patterns;
  for (const auto& [pattern, overrides] : options.modules) patterns.push_back(pattern);
  std::stable_sort(patterns.begin(), patterns.end(),
                   [](const auto& a, const auto& b) { return a.size() < b.size(); });
  ModuleParallelOptions chosen = options.defaults;
  for (const auto& around : paths_around(path)) {
    for (const auto& pattern : patterns) {
      if (!matches_pattern(around, pattern)) continue;
      const auto& overrides = options.modules.at(pattern);
      override_with(chosen.strategy, overrides.strategy);
      if (overrides.mesh) chosen.mesh = overrides.mesh;
      override_with(chosen.reshard_after_forward, overrides.reshard_after_forward);
      override_with(chosen.reshard_after_backward, overrides.reshard_after_backward);
      override_with(chosen.prefetch, overrides.prefetch);
      override_with(chosen.bucket_mib, overrides.bucket_mib);
      override_with(chosen.recompute, overrides.recompute);
      override_with(chosen.param_dtype, overrides.param_dtype);
      override_with(chosen.reduce_dtype, overrides.reduce_dtype);
    }
  }
  return chosen;
}

bool recompute_matches(const std::string& name, const std::string& path) {
  return matches_pattern(path, name) || path.substr(path.rfind('.') + 1) == name;
}

/// `depth`: units around this one.
bool recomputes(const std::vector<std::string>& names, const std::string& path, int depth) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    if (name == "none") return false;
    return name == "layer" ? depth == 1 : recompute_matches(name, path);
  });
}

void check_recompute_names(const std::string& key, const std::vector<std::string>& names,
                           nn::Module& root) {
  std::vector<std::string> paths;
  for (auto& [path, unit] : nn::find_modules<Unit>(root)) paths.push_back(path);
  for (const auto& name : names) {
    VEOMNI_CHECK_CONFIG(name != "none" || names.size() == 1, key,
                        ": 'none' cannot stand beside other names");
    if (name == "none" || name == "layer") continue;
    const bool found = std::any_of(paths.begin(), paths.end(),
                                   [&](const auto& path) { return recompute_matches(name, path); });
    if (!found) fail_pattern(key, name, paths);
  }
}

/// A pattern that names modules inside a unit alone would change nothing.
void check_reaches_unit(const std::string& pattern, const std::vector<std::string>& units,
                        const std::vector<std::string>& paths) {
  for (const auto& unit : units) {
    for (const auto& around : paths_around(unit)) {
      if (matches_pattern(around, pattern)) return;
    }
  }
  const auto inside = std::find_if(
      paths.begin(), paths.end(), [&](const auto& path) { return matches_pattern(path, pattern); });
  std::string whole;
  for (const auto& around : paths_around(*inside)) {
    if (std::count(units.begin(), units.end(), around)) whole = around;
  }
  throw_config_error(detail::concat("parallel.modules: '", pattern, "' names a part of the unit '",
                                    whole, "', which can only be spread as a whole; name that"));
}

void check_options(nn::Module& root, const ParallelOptions& options) {
  check_recompute_names("parallel.default.recompute", options.defaults.recompute, root);
  const auto paths = module_paths(root);
  std::vector<std::string> units;
  for (auto& [path, unit] : nn::find_modules<Unit>(root)) units.push_back(path);
  for (const auto& [pattern, overrides] : options.modules) {
    const std::string key = "parallel.modules." + pattern;
    const bool found = std::any_of(paths.begin(), paths.end(), [&, &p = pattern](const auto& path) {
      return matches_pattern(path, p);
    });
    if (!found) fail_pattern("parallel.modules", pattern, paths);
    check_reaches_unit(pattern, units, paths);
    if (overrides.recompute) check_recompute_names(key + ".recompute", *overrides.recompute, root);
  }
}

bool shards(const std::string& strategy) { return strategy != "ddp" && strategy != "replicate"; }

MeshShape unit_mesh(const MeshShape& job, const ModuleParallelOptions& chosen,
                    const std::string& path) {
  VEOMNI_CHECK_CONFIG(job.sp == 1, "mesh.sp=", job.sp,
                      ": sequence parallelism is not in this build; set mesh.sp: 1");
  if (!chosen.mesh) return job;
  const int ranks = job.dp_replicate * job.dp_shard;
  MeshShape own = {chosen.mesh->dp_replicate, chosen.mesh->dp_shard, job.sp};
  if (own.dp_shard == 0 && ranks % own.dp_replicate == 0) own.dp_shard = ranks / own.dp_replicate;
  VEOMNI_CHECK_CONFIG(own.dp_replicate * own.dp_shard == ranks, "parallel: the mesh of '",
                      path.empty() ? "the model" : path, "', dp_replicate ", own.dp_replicate,
                      " x dp_shard ", chosen.mesh->dp_shard, ", does not lay out the job's ", ranks,
                      " data-parallel ranks; choose factors of ", ranks);
  return own;
}

std::string placement_of(const std::string& strategy, const MeshShape& mesh) {
  const std::string shard = strategy == "fsdp1" ? "Flat" : "Shard(0)";
  return std::string("Replicate, ") +
         (!shards(strategy) || mesh.dp_shard == 1 ? "Replicate" : shard);
}

torch::ScalarType named_dtype(const std::string& name) {
  return name.empty() ? torch::ScalarType::Undefined : nn::parse_dtype(name);
}

torch::ScalarType dtype_of(const nn::Parameter& parameter, const UnitPlan& plan) {
  return plan.param_dtype == torch::ScalarType::Undefined ? parameter.dtype() : plan.param_dtype;
}

/// Elements of each parameter that rank 0 keeps.
std::vector<int64_t> local_numels(const std::vector<nn::Parameter>& parameters,
                                  const UnitPlan& plan) {
  const int world = shards(plan.strategy) ? plan.mesh.dp_shard : 1;
  std::vector<int64_t> local(parameters.size());
  using Kind = std::pair<torch::ScalarType, bool>;
  std::map<Kind, std::vector<size_t>> buffers;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& parameter = parameters[i];
    local[i] = parameter.numel();
    if (world == 1) continue;
    if (plan.strategy == "fsdp1") {
      buffers[{dtype_of(parameter, plan), parameter.trainable()}].push_back(i);
    } else {
      local[i] = io::ShardSpec::rows(parameter.shape(), 0, world).local_numel();
    }
  }
  for (const auto& [kind, members] : buffers) {
    std::vector<int64_t> numels;
    for (size_t i : members) numels.push_back(parameters[i].numel());
    const auto geometry =
        flat_geometry(numels, static_cast<int64_t>(c10::elementSize(kind.first)), world);
    for (size_t m = 0; m < members.size(); ++m)
      local[members[m]] = part_of(geometry.begins[m], numels[m], geometry.chunk, 0).length;
  }
  return local;
}

void count(UnitPlan& plan, Unit& unit) {
  const auto parameters = unit.unit_parameters();
  const auto local = local_numels(parameters, plan);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto dtype = dtype_of(parameters[i], plan), wide = nn::wide_dtype(dtype);
    int64_t element_bytes = c10::elementSize(dtype);
    if (parameters[i].trainable())
      element_bytes += (wide == dtype ? 1 : 2) * c10::elementSize(wide);
    plan.numel += parameters[i].numel();
    plan.gathered_bytes += parameters[i].numel() * c10::elementSize(dtype);
    plan.local_numel += local[i];
    plan.local_bytes += local[i] * element_bytes;
  }
}

UnitPlan plan_unit(Unit& unit, const std::string& path, int depth, const MeshShape& mesh,
                   const ParallelOptions& options) {
  const auto chosen = options_for(path, options);
  UnitPlan plan{.path = path, .strategy = chosen.strategy};
  plan.mesh = unit_mesh(mesh, chosen, path);
  plan.placement = placement_of(chosen.strategy, plan.mesh);
  const bool sharded = shards(chosen.strategy);
  plan.reshard_after_forward = sharded && chosen.reshard_after_forward && depth > 0;
  plan.reshard_after_backward = !sharded || chosen.reshard_after_backward;
  plan.prefetch = sharded && chosen.prefetch;
  if (chosen.strategy == "ddp")
    plan.bucket_bytes = static_cast<int64_t>(chosen.bucket_mib * (1 << 20));
  plan.recompute = recomputes(chosen.recompute, path, depth);
  plan.param_dtype = named_dtype(chosen.param_dtype);
  plan.reduce_dtype = named_dtype(chosen.reduce_dtype);
  count(plan, unit);
  return plan;
}

void set_dtype(const nn::Parameter& handle, torch::ScalarType dtype) {
  auto parameter = handle;
  if (dtype == torch::ScalarType::Undefined || parameter.dtype() == dtype) return;
  VEOMNI_CHECK(parameter.value().is_meta(), "parameter ", parameter.name(),
               " has memory already; set its dtype while the model is on meta");
  parameter.replace_value(torch::empty(
      parameter.shape(), parameter.value().options().requires_grad(false).dtype(dtype)));
  parameter.replace_local(parameter.value().detach(), {});
}

FullyShardOptions shard_options(const UnitPlan& plan) {
  FullyShardOptions options;
  options.layout = !shards(plan.strategy)     ? Layout::kWhole
                   : plan.strategy == "fsdp1" ? Layout::kFlat
                                              : Layout::kRows;
  options.reshard_after_forward = plan.reshard_after_forward;
  options.reshard_after_backward = plan.reshard_after_backward;
  options.prefetch = plan.prefetch;
  options.bucketed = plan.bucket_bytes > 0;
  if (options.bucketed) options.bucket_bytes = plan.bucket_bytes;
  options.reduce_dtype = plan.reduce_dtype;
  return options;
}

/// The communicators of every mesh the plan names. Making one is collective: all ranks ask in the same
/// order.
class GroupsByMesh {
 public:
  explicit GroupsByMesh(const DeviceMesh& job) : all_(job.communicator("dp_replicate_dp_shard")) {
    known_.emplace(key(job.shape()), groups_of(job));
  }
  const ShardGroups& operator[](const MeshShape& shape) {
    const auto found = known_.find(key(shape));
    if (found != known_.end()) return found->second;
    const DeviceMesh mesh(all_, {shape.dp_replicate, shape.dp_shard, 1});
    return known_.emplace(key(shape), groups_of(mesh)).first->second;
  }

 private:
  using Key = std::pair<int, int>;
  static Key key(const MeshShape& shape) { return {shape.dp_replicate, shape.dp_shard}; }
  ShardGroups groups_of(const DeviceMesh& mesh) const {
    return {mesh.communicator("dp_shard"), mesh.communicator("dp_replicate"), all_};
  }
  std::shared_ptr<Communicator> all_;
  std::map<Key, ShardGroups> known_;
};

}  // namespace

ParallelPlan make_plan(nn::Module& root, const MeshShape& mesh, const ParallelOptions& options) {
  check_units_own_parameters(root);
  check_options(root, options);
  ParallelPlan plan{.mesh = mesh};
  std::map<nn::Module*, int> depth;
  for (auto& [path, unit] : nn::find_modules<Unit>(root)) {
    plan.units.push_back(plan_unit(*unit, path, depth[unit], mesh, options));
    unit->visit([&, self = unit](const std::string&, nn::Module& below) {
      if (&below != self) ++depth[&below];
    });
  }
  return plan;
}

Parallelized parallelize(nn::Module& root, const DeviceMesh& mesh, const ParallelOptions& options) {
  Parallelized result{.plan = make_plan(root, mesh.shape(), options),
                      .state = make_step_state(),
                      .group = mesh.communicator("dp_replicate_dp_shard")};
  GroupsByMesh groups(mesh);
  const auto units = nn::find_modules<Unit>(root);
  for (size_t i = 0; i < units.size(); ++i) {
    auto& unit = *units[i].second;
    const auto& plan = result.plan.units[i];
    for (const auto& parameter : unit.unit_parameters()) set_dtype(parameter, plan.param_dtype);
    shard_unit(unit, groups[plan.mesh], shard_options(plan), result.state);
    if (plan.recompute) recompute_unit(unit);
  }
  return result;
}

}  // namespace veomni::parallel
