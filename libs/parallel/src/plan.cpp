// SPDX-License-Identifier: Apache-2.0
#include "veomni/parallel/plan.h"

#include <algorithm>
#include <set>

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
      override_with(chosen.reshard_after_forward, overrides.reshard_after_forward);
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

void check_options(nn::Module& root, const ParallelOptions& options) {
  check_recompute_names("parallel.default.recompute", options.defaults.recompute, root);
  const auto paths = module_paths(root);
  for (const auto& [pattern, overrides] : options.modules) {
    const std::string key = "parallel.modules." + pattern;
    const bool found = std::any_of(paths.begin(), paths.end(), [&, &p = pattern](const auto& path) {
      return matches_pattern(path, p);
    });
    if (!found) fail_pattern("parallel.modules", pattern, paths);
    if (overrides.recompute) check_recompute_names(key + ".recompute", *overrides.recompute, root);
  }
}

void check_supported(const MeshShape& mesh, const std::string& path, const std::string& strategy) {
  const std::string where = path.empty() ? std::string("the model") : "module '" + path + "'";
  VEOMNI_CHECK_CONFIG(strategy == "fsdp2" || strategy == "replicate", "parallel strategy '",
                      strategy, "' of ", where,
                      " is not in this build; it has fsdp2 and replicate");
  VEOMNI_CHECK_CONFIG(strategy == "replicate" || mesh.dp_replicate == 1,
                      "mesh.dp_replicate=", mesh.dp_replicate, " with strategy fsdp2 (", where,
                      ") is hybrid sharding, which is not in this build; ",
                      "set mesh.dp_replicate: 1, or strategy: replicate");
  VEOMNI_CHECK_CONFIG(mesh.sp == 1, "mesh.sp=", mesh.sp,
                      ": sequence parallelism is not in this build; set mesh.sp: 1");
}

torch::ScalarType named_dtype(const std::string& name) {
  return name.empty() ? torch::ScalarType::Undefined : nn::parse_dtype(name);
}

void count(UnitPlan& plan, Unit& unit, int shards) {
  for (const auto& parameter : unit.unit_parameters()) {
    const auto dtype =
        plan.param_dtype == torch::ScalarType::Undefined ? parameter.dtype() : plan.param_dtype;
    const auto wide = nn::wide_dtype(dtype);
    const int64_t local = plan.strategy == "fsdp2"
                              ? io::ShardSpec::rows(parameter.shape(), 0, shards).local_numel()
                              : parameter.numel();
    int64_t element_bytes = c10::elementSize(dtype);
    if (parameter.trainable()) element_bytes += (wide == dtype ? 1 : 2) * c10::elementSize(wide);
    plan.numel += parameter.numel();
    plan.gathered_bytes += parameter.numel() * c10::elementSize(dtype);
    plan.local_numel += local;
    plan.local_bytes += local * element_bytes;
  }
}

UnitPlan plan_unit(Unit& unit, const std::string& path, int depth, const MeshShape& mesh,
                   const ParallelOptions& options) {
  const auto chosen = options_for(path, options);
  check_supported(mesh, path, chosen.strategy);
  UnitPlan plan{.path = path, .strategy = chosen.strategy};
  plan.reshard_after_forward =
      chosen.strategy == "fsdp2" && chosen.reshard_after_forward && depth > 0;
  plan.recompute = recomputes(chosen.recompute, path, depth);
  plan.param_dtype = named_dtype(chosen.param_dtype);
  plan.reduce_dtype = named_dtype(chosen.reduce_dtype);
  count(plan, unit, mesh.dp_shard);
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
                      .stats = std::make_shared<ShardStats>(),
                      .group = mesh.communicator("dp_replicate_dp_shard")};
  const auto units = nn::find_modules<Unit>(root);
  for (size_t i = 0; i < units.size(); ++i) {
    auto& unit = *units[i].second;
    const auto& plan = result.plan.units[i];
    for (const auto& parameter : unit.unit_parameters()) set_dtype(parameter, plan.param_dtype);
    const bool shard = plan.strategy == "fsdp2";
    const auto& group = shard ? mesh.communicator("dp_shard") : result.group;
    shard_unit(unit, group,
               {.shard = shard,
                .reshard_after_forward = plan.reshard_after_forward,
                .reduce_dtype = plan.reduce_dtype},
               result.stats);
    if (plan.recompute) recompute_unit(unit);
  }
  return result;
}

}  // namespace veomni::parallel
