// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "veomni/base/error.h"
#include "veomni/nn/dtype.h"
#include "veomni/parallel/plan.h"

namespace veomni::parallel {

namespace {

/// Whether two units differ in nothing but their paths.
bool alike(UnitPlan a, const UnitPlan& b) {
  a.path = b.path;
  return a == b;
}

std::string mib(int64_t bytes) {
  return fmt::format("{:.2f}", static_cast<double>(bytes) / (1 << 20));
}

std::string word(torch::ScalarType dtype, const char* otherwise) {
  return dtype == torch::ScalarType::Undefined ? otherwise : nn::dtype_word(dtype);
}

bool shards(const UnitPlan& unit) {
  return unit.strategy != "ddp" && unit.strategy != "replicate" && unit.mesh.dp_shard > 1;
}

std::vector<std::string> row_of(const std::string& path, const UnitPlan& unit) {
  return {path,
          unit.strategy,
          fmt::format("{} x {}", unit.mesh.dp_replicate, unit.mesh.dp_shard),
          unit.placement,
          !shards(unit)                ? "-"
          : unit.reshard_after_forward ? "yes"
                                       : "no",
          !shards(unit)   ? "-"
          : unit.prefetch ? "yes"
                          : "no",
          unit.recompute ? "yes" : "no",
          word(unit.param_dtype, "model's"),
          word(unit.reduce_dtype, "wide"),
          std::to_string(unit.numel),
          mib(unit.gathered_bytes),
          mib(unit.local_bytes)};
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width(rows[0].size());
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) line += fmt::format("{:<{}}", row[c], width[c] + 2);
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

}  // namespace

std::string ParallelPlan::describe() const {
  std::vector<std::vector<std::string>> rows = {
      {"unit", "strategy", "mesh", "placement", "reshard", "prefetch", "recompute", "param_dtype",
       "reduce_dtype", "parameters", "gathered MiB", "per rank MiB"}};
  int64_t numel = 0, local_bytes = 0;
  for (size_t begin = 0, end; begin < units.size(); begin = end) {
    for (end = begin + 1; end < units.size() && alike(units[begin], units[end]);) ++end;
    std::string path = units[begin].path.empty() ? "(root)" : units[begin].path;
    if (end - begin > 1) path += fmt::format(" .. {} ({}x)", units[end - 1].path, end - begin);
    rows.push_back(row_of(path, units[begin]));
    for (size_t i = begin; i < end; ++i) {
      numel += units[i].numel;
      local_bytes += units[i].local_bytes;
    }
  }
  return fmt::format("mesh: dp_replicate {} x dp_shard {} x sp {}\n", mesh.dp_replicate,
                     mesh.dp_shard, mesh.sp) +
         "mesh of a unit: dp_replicate x dp_shard; placement along these\n" + table(rows) +
         fmt::format(
             "total: {} parameters; {} MiB per rank of compute copies, masters and gradients\n",
             numel, mib(local_bytes));
}

}  // namespace veomni::parallel
