// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/materialize.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "veomni/base/error.h"
#include "veomni/base/rng.h"
#include "veomni/nn/dtype.h"

namespace veomni::nn {

namespace {

// Elements a task of random initialisation: Philox costs some 20 ns each.
constexpr int64_t kInitGrain = 1 << 14;

void free_storage(const torch::Tensor& tensor) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(storage->allocator()->allocate(0));
  storage->set_nbytes(0);
}

torch::Tensor make_master(const Parameter& parameter, const torch::Tensor& local, Masters masters) {
  if (masters == Masters::kNone || !parameter.trainable()) return {};
  const auto wide = wide_dtype(local.scalar_type());
  return wide == local.scalar_type() ? local
                                     : torch::empty(local.sizes(), local.options().dtype(wide));
}

template <typename T>
void fill_normal(torch::Tensor& rows, const io::ShardSpec& shard, const KeyedRng& rng, double std) {
  T* out = rows.data_ptr<T>();
  for (const auto& run : io::element_runs(shard)) {
    at::parallel_for(0, run.length, kInitGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        out[run.local_begin + i] = static_cast<T>(std * rng.normal_at(run.full_begin + i));
      }
    });
  }
}

// A parameter's own rows, filled by its Init.
torch::Tensor initial_rows(const Parameter& parameter, uint64_t seed) {
  const auto& init = parameter.init();
  // Normals are drawn in the wide dtype, so that a bf16 model starts from the rounding of the fp32 one.
  auto rows = torch::empty(parameter.local().sizes(), torch::dtype(wide_dtype(parameter.dtype())));
  if (init.kind != Init::Kind::kNormal)
    return rows.fill_(init.kind == Init::Kind::kOnes ? 1.0 : 0.0);
  const KeyedRng rng(seed, "init", hash_name(parameter.name()));
  if (rows.scalar_type() == torch::kDouble) {
    fill_normal<double>(rows, parameter.shard(), rng, init.std);
  } else {
    fill_normal<float>(rows, parameter.shard(), rng, init.std);
  }
  return rows;
}

}  // namespace

void materialize(Module& root, torch::Device device, Masters masters) {
  torch::NoGradGuard no_grad;
  for (auto& [path, parameter] : root.named_parameters()) {
    const auto options = torch::dtype(parameter.dtype()).device(device);
    auto local = torch::empty(parameter.shard().local_shape(), options);
    parameter.replace_local(local, make_master(parameter, local, masters));
    if (!parameter.shard().is_sharded()) {
      parameter.replace_value(local.detach());
    } else {
      auto value = torch::empty(parameter.shape(), options);
      free_storage(value);
      parameter.replace_value(value);
    }
  }
}

void initialize(Module& root, uint64_t seed, const std::vector<std::string>& only) {
  for (auto& [path, parameter] : root.named_parameters()) {
    if (!only.empty() && !std::count(only.begin(), only.end(), parameter.name())) continue;
    parameter.assign_local(initial_rows(parameter, seed));
  }
}

std::vector<io::ParamShape> param_shapes(Module& part) {
  std::vector<io::ParamShape> shapes;
  for (const auto& [path, parameter] : part.named_parameters())
    shapes.push_back({path, parameter.shape()});
  return shapes;
}

void load_weights(Module& part, const io::RuleSet& rules, const io::SafetensorsIndex& index,
                  const std::function<bool(const std::string&)>& wanted) {
  auto parameters = part.named_parameters();
  if (wanted) std::erase_if(parameters, [&](const auto& entry) { return !wanted(entry.first); });
  std::vector<io::ParamShape> shapes;
  for (const auto& [path, parameter] : parameters) shapes.push_back({path, parameter.shape()});
  const auto resolved = rules.resolve_all(shapes);
  io::check_complete(resolved, index, rules);
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto parameter = parameters[i].second;
    const auto plan = io::plan_read(resolved[i], index, parameter.shard());
    auto rows =
        torch::empty(parameter.shard().local_shape(), torch::dtype(torch_dtype(plan.dtype)));
    io::read_planned(plan, {static_cast<std::byte*>(rows.data_ptr()), rows.nbytes()});
    parameter.assign_local(rows);
  }
}

}  // namespace veomni::nn
