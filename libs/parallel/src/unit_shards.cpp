// SPDX-License-Identifier: Apache-2.0
#include "unit_shards.h"

#include <algorithm>

#include "veomni/base/error.h"

namespace veomni::parallel {

namespace {

using nn::wide_dtype;

void resize_storage(const torch::Tensor& tensor, int64_t bytes) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  auto* allocator =
      storage->allocator() ? storage->allocator() : c10::GetAllocator(tensor.device().type());
  storage->set_data_ptr_noswap(allocator->allocate(static_cast<size_t>(bytes)));
  storage->set_nbytes(static_cast<size_t>(bytes));
}

/// The first `numel` elements of a tensor's storage, as a tensor of its own: writing through it
/// moves no version counter.
torch::Tensor flat_storage(const torch::Tensor& tensor, int64_t numel) {
  return torch::empty({0}, tensor.options().requires_grad(false))
      .set_(tensor.storage(), 0, {numel}, {1});
}

}  // namespace

int64_t UnitShards::Entry::chunk_numel(int world) const {
  const auto& shape = parameter.shape();
  const int64_t chunk_rows = (shape[0] + world - 1) / world;
  return shape[0] ? chunk_rows * (parameter.numel() / shape[0]) : 0;
}

UnitShards::UnitShards(nn::Unit& unit, std::shared_ptr<Communicator> group,
                       const FullyShardOptions& options, std::shared_ptr<ShardStats> stats)
    : name_(unit.name()),
      group_(std::move(group)),
      reduce_dtype_(options.reduce_dtype),
      stats_(std::move(stats)) {
  for (auto& parameter : unit.unit_parameters()) {
    Entry entry{.parameter = parameter};
    entry.sharded = options.shard && group_->size() > 1 && !parameter.shape().empty();
    if (entry.sharded) {
      VEOMNI_CHECK(parameter.value().is_meta(), "parameter ", parameter.name(),
                   " has memory already; shard the model while it is on meta, then materialize it");
      parameter.set_shard(io::ShardSpec::rows(parameter.shape(), group_->rank(), group_->size()));
    }
    entries_.push_back(std::move(entry));
  }
  for (auto& [path, parameter] : unit.named_parameters()) subtree_.push_back(parameter);
}

bool UnitShards::anything_trains() const {
  return std::any_of(subtree_.begin(), subtree_.end(),
                     [](const nn::Parameter& p) { return p.trainable(); });
}

void UnitShards::gather() {
  if (live_ == 0) {
    bool has_storage = false;
    try {
      collect(has_storage);
    } catch (...) {
      if (has_storage) free_values();
      throw;
    }
  }
  ++live_;
}

void UnitShards::drop() {
  if (--live_ == 0) free_values();
}

void UnitShards::separate_value(Entry& entry) const {
  auto& parameter = entry.parameter;
  VEOMNI_CHECK(!parameter.local().is_meta(), "unit ", name_, ": parameter ", parameter.name(),
               " is still on meta; call materialize() before the first forward");
  // A rank that owns every row (fewer rows than ranks) was given value() as an alias of local();
  // here it is freed and filled like everyone's.
  if (!parameter.value().is_alias_of(parameter.local())) return;
  auto value = torch::empty(parameter.shape(), parameter.local().options());
  resize_storage(value, 0);
  parameter.replace_value(value);
}

void UnitShards::collect(bool& has_storage) {
  torch::NoGradGuard no_grad;
  const int world = group_->size();
  std::vector<torch::Tensor> outs, ins;
  for (auto& entry : entries_) {
    if (entry.sharded) separate_value(entry);
  }
  has_storage = true;
  for (auto& entry : entries_) {
    if (!entry.sharded) continue;
    const auto& local = entry.parameter.local();
    const int64_t chunk = entry.chunk_numel(world), bytes = chunk * world * local.element_size();
    // The storage holds equal blocks, value() views its first rows: the gather lands without a
    // copy.
    resize_storage(entry.parameter.value(), bytes);
    gathered_bytes_ += bytes;
    stats_->gathered_bytes += bytes;
    outs.push_back(flat_storage(entry.parameter.value(), chunk * world));
    if (local.numel() == chunk) {
      ins.push_back(local.view({-1}));
    } else {
      ins.push_back(outs.back().narrow(0, group_->rank() * chunk, chunk));
      ins.back().narrow(0, 0, local.numel()).copy_(local.view({-1}));
    }
  }
  stats_->num_gathers += 1;
  stats_->peak_gathered_bytes = std::max(stats_->peak_gathered_bytes, stats_->gathered_bytes);
  if (!outs.empty()) group_->all_gather_coalesced(std::move(outs), std::move(ins))->wait();
}

void UnitShards::free_values() {
  for (auto& entry : entries_) {
    if (entry.sharded) resize_storage(entry.parameter.value(), 0);
  }
  stats_->gathered_bytes -= gathered_bytes_;
  gathered_bytes_ = 0;
}

void UnitShards::begin_backward() {
  if (in_backward_++ > 0 || group_->size() == 1) return;
  // Where the shard is whole, Parameter::grad() is value().grad(): what earlier micro-batches left
  // there is summed already and must not be summed again.
  for (auto& entry : entries_) {
    auto& parameter = entry.parameter;
    if (!parameter.shard().is_whole()) continue;
    entry.prior = parameter.grad();
    parameter.set_grad({});
  }
}

void UnitShards::end_backward() {
  if (--in_backward_ > 0) return;
  torch::NoGradGuard no_grad;
  if (group_->size() > 1) return reduce();
  for (auto& entry : entries_) {
    auto& parameter = entry.parameter;
    if (!parameter.trainable() || parameter.grad().defined()) continue;
    parameter.set_grad(torch::zeros(
        parameter.shape(), parameter.value().options().dtype(wide_dtype(parameter.dtype()))));
  }
}

/// This micro-batch's gradient of the full parameter, removed from value(); zeros if none came.
torch::Tensor UnitShards::take_gradient(Entry& entry) const {
  const auto& value = entry.parameter.value();
  auto gradient = value.grad();
  value.mutable_grad() = torch::Tensor();
  const auto wide = wide_dtype(value.scalar_type());
  if (!gradient.defined())
    gradient = torch::zeros(value.sizes(), value.options().requires_grad(false).dtype(wide));
  const auto dtype = reduce_dtype_ == torch::ScalarType::Undefined ? wide : reduce_dtype_;
  return gradient.to(dtype).contiguous().view({-1});
}

torch::Tensor UnitShards::padded(const Entry& entry, const torch::Tensor& gradient) const {
  const int64_t numel = entry.chunk_numel(group_->size()) * group_->size();
  if (gradient.numel() == numel) return gradient;
  auto buffer = torch::empty({numel}, gradient.options());
  buffer.narrow(0, 0, gradient.numel()).copy_(gradient);
  buffer.narrow(0, gradient.numel(), numel - gradient.numel()).zero_();
  return buffer;
}

void UnitShards::store_gradient(Entry& entry, torch::Tensor rows) const {
  auto& parameter = entry.parameter;
  auto prior = parameter.shard().is_whole() ? std::move(entry.prior) : parameter.grad();
  entry.prior = torch::Tensor();
  parameter.set_grad(prior.defined() ? prior.add_(rows) : rows);
}

void UnitShards::reduce() {
  std::vector<Entry*> order;
  std::vector<torch::Tensor> outs, ins;
  std::vector<WorkPtr> works;
  for (bool sharded : {true, false}) {
    for (auto& entry : entries_) {
      if (entry.sharded != sharded || !entry.parameter.trainable()) continue;
      order.push_back(&entry);
      auto gradient = take_gradient(entry);
      ins.push_back(sharded ? padded(entry, gradient) : gradient);
      const int64_t numel = sharded ? entry.chunk_numel(group_->size()) : gradient.numel();
      outs.push_back(
          torch::empty({numel}, gradient.options().dtype(wide_dtype(entry.parameter.dtype()))));
      if (!sharded) works.push_back(group_->all_reduce(outs.back(), ins.back(), ReduceOp::kSum));
    }
    if (sharded && !outs.empty())
      works.push_back(group_->reduce_scatter_coalesced(outs, ins, ReduceOp::kSum));
  }
  for (auto& work : works) work->wait();
  if (!order.empty()) stats_->num_reduces += 1;
  for (size_t i = 0; i < order.size(); ++i) {
    const auto& local = order[i]->parameter.local();
    store_gradient(*order[i], outs[i].narrow(0, 0, local.numel()).view(local.sizes()));
  }
}

}  // namespace veomni::parallel
