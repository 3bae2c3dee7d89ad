// SPDX-License-Identifier: Apache-2.0
#include "param_block.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "veomni/base/error.h"

namespace veomni::parallel {

namespace {

constexpr int64_t kAlignment = 64;  // a cache line, the widest vector register

void resize_storage(const torch::Tensor& tensor, int64_t bytes) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  auto* allocator =
      storage->allocator() ? storage->allocator() : c10::GetAllocator(tensor.device().type());
  storage->set_data_ptr_noswap(allocator->allocate(static_cast<size_t>(bytes)));
  storage->set_nbytes(static_cast<size_t>(bytes));
}

std::vector<int64_t> dense_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;)
    strides[d - 1] = strides[d] * std::max<int64_t>(shape[d], 1);
  return strides;
}

}  // namespace

FlatGeometry flat_geometry(const std::vector<int64_t>& numels, int64_t element_size, int world) {
  const int64_t step = std::max<int64_t>(kAlignment / element_size, 1);
  FlatGeometry geometry;
  int64_t end = 0;
  for (int64_t numel : numels) {
    geometry.begins.push_back((end + step - 1) / step * step);
    end = geometry.begins.back() + numel;
  }
  geometry.chunk = (end + world - 1) / world;
  return geometry;
}

io::Slice part_of(int64_t begin, int64_t numel, int64_t chunk, int rank) {
  const int64_t first = std::clamp<int64_t>(chunk * rank - begin, 0, numel);
  const int64_t last = std::clamp<int64_t>(chunk * (rank + 1) - begin, 0, numel);
  return {first, last - first};
}

ParamBlock::ParamBlock(const nn::Parameter& parameter, int rank, int world, int replica)
    : rank_(rank), world_(world) {
  const auto& shape = parameter.shape();
  const int64_t rows = (shape[0] + world - 1) / world;
  chunk_ = shape[0] ? rows * (parameter.numel() / shape[0]) : 0;
  add_slot(parameter, 0, io::ShardSpec::rows(shape, rank, world), replica);
}

ParamBlock::ParamBlock(const std::vector<nn::Parameter>& parameters, int rank, int world,
                       int replica)
    : rank_(rank), world_(world) {
  std::vector<int64_t> numels;
  for (const auto& parameter : parameters) numels.push_back(parameter.numel());
  const auto element_size = static_cast<int64_t>(c10::elementSize(parameters[0].dtype()));
  const auto geometry = flat_geometry(numels, element_size, world);
  chunk_ = geometry.chunk;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto part = part_of(geometry.begins[i], numels[i], chunk_, rank);
    add_slot(parameters[i], geometry.begins[i],
             io::ShardSpec::flat_range(parameters[i].shape(), part), replica);
  }
}

void ParamBlock::add_slot(const nn::Parameter& handle, int64_t begin, io::ShardSpec shard,
                          int replica) {
  auto parameter = handle;
  VEOMNI_CHECK(parameter.value().is_meta(), "parameter ", parameter.name(),
               " has memory already; shard the model while it is on meta, then materialize it");
  parameter.set_shard(std::move(shard), replica);
  slots_.push_back({parameter, begin, std::max<int64_t>(begin - chunk_ * rank_, 0)});
}

bool ParamBlock::trains() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return slot.parameter.trainable(); });
}

int64_t ParamBlock::full_bytes() const {
  return chunk_ * world_ * static_cast<int64_t>(c10::elementSize(slots_[0].parameter.dtype()));
}

torch::ScalarType ParamBlock::gradient_dtype() const {
  return nn::wide_dtype(slots_[0].parameter.dtype());
}

/// The values as tensors of their own on the buffer's memory: writing through the buffer moves none
/// of their version counters. Done again where the model was materialized anew.
void ParamBlock::bind_values() {
  for (auto& slot : slots_) {
    auto& parameter = slot.parameter;
    if (parameter.value().storage().is_alias_of(buffer_.storage())) continue;
    parameter.replace_value(torch::empty({0}, parameter.local().options().requires_grad(false))
                                .set_(buffer_.storage(), slot.begin, parameter.shape(),
                                      dense_strides(parameter.shape())));
  }
}

/// Whether this rank's chunk is its local part as it is.
bool ParamBlock::sends_local() const {
  return slots_.size() == 1 && slots_[0].parameter.local().numel() == chunk_;
}

/// Gives the local part memory of `window`; the tensor and its views stay.
void ParamBlock::move_local(c10::Allocator* window) {
  const auto& local = slots_[0].parameter.local();
  auto* storage = local.storage().unsafeGetStorageImpl();
  if (!window || local.numel() == 0 || local.data_ptr() == moved_ ||
      storage->nbytes() != local.nbytes()) {
    return;
  }
  auto memory = window->allocate(storage->nbytes());
  std::memcpy(memory.get(), storage->data(), storage->nbytes());
  storage->set_data_ptr_noswap(std::move(memory));
  moved_ = local.data_ptr();
}

void ParamBlock::allocate(Communicator& group) {
  for (const auto& slot : slots_) {
    VEOMNI_CHECK(!slot.parameter.local().is_meta(), "parameter ", slot.parameter.name(),
                 " is still on meta; call materialize() before the first forward");
  }
  const auto& options = slots_[0].parameter.local().options();
  if (buffer_.defined() && buffer_.scalar_type() == options.dtype().toScalarType()) {
    resize_storage(buffer_, full_bytes());
  } else {
    const auto whole = options.requires_grad(false);
    buffer_ = sends_local() ? torch::empty({chunk_ * world_}, whole)
                            : empty_in_window(group, {chunk_ * world_}, whole);
  }
  bind_values();
  for (auto& slot : slots_) slot.parameter.written();  // the gather will
  if (sends_local()) {
    if (options.device().is_cpu()) move_local(group.window_allocator());
    send_ = slots_[0].parameter.local().view({-1});
    return;
  }
  send_ = buffer_.narrow(0, rank_ * chunk_, chunk_);
  for (const auto& slot : slots_) {
    const auto& local = slot.parameter.local();
    if (local.numel()) send_.narrow(0, slot.local, local.numel()).copy_(local.view({-1}));
  }
}

void ParamBlock::release() {
  send_ = torch::Tensor();
  if (buffer_.defined()) resize_storage(buffer_, 0);
  for (const auto& slot : slots_) slot.parameter.packed()->release();
}

torch::Tensor ParamBlock::take_gradients(torch::ScalarType dtype, Communicator& group) {
  const auto take = [](const Slot& slot) {
    auto gradient = slot.parameter.value().grad();
    slot.parameter.value().mutable_grad() = torch::Tensor();
    return gradient;
  };
  const auto options = slots_[0].parameter.local().options().requires_grad(false).dtype(dtype);
  const int64_t numel = chunk_ * world_;
  if (slots_.size() == 1 && slots_[0].parameter.numel() == numel) {
    const auto gradient = take(slots_[0]);
    if (gradient.defined() && gradient.scalar_type() == dtype && gradient.is_contiguous())
      return gradient.view({-1});
    auto flat = empty_in_window(group, {numel}, options);
    if (!gradient.defined()) return flat.zero_();
    flat.view(gradient.sizes()).copy_(gradient);
    return flat;
  }
  auto buffer = empty_in_window(group, {numel}, options);
  int64_t at = 0;
  for (const auto& slot : slots_) {
    const int64_t length = slot.parameter.numel();
    buffer.narrow(0, at, slot.begin - at).zero_();
    auto part = buffer.narrow(0, slot.begin, length).view(slot.parameter.shape());
    if (const auto gradient = take(slot); gradient.defined()) {
      part.copy_(gradient);
    } else {
      part.zero_();
    }
    at = slot.begin + length;
  }
  buffer.narrow(0, at, numel - at).zero_();
  return buffer;
}

void ParamBlock::add_to_gradients(const torch::Tensor& sums) {
  for (auto& slot : slots_) {
    auto& parameter = slot.parameter;
    if (!parameter.trainable()) continue;
    const auto& local = parameter.local();
    // A part without elements may begin past the chunk's end.
    const auto part = sums.narrow(0, local.numel() ? slot.local : 0, local.numel());
    auto prior = parameter.grad();
    parameter.set_grad(prior.defined() ? prior.add_(part.view(local.sizes()))
                                       : part.view(local.sizes()));
  }
}

void ParamBlock::defer(torch::Tensor sums) {
  deferred_ = deferred_.defined() ? deferred_.add_(sums) : std::move(sums);
}

torch::Tensor ParamBlock::take_deferred() { return std::exchange(deferred_, torch::Tensor()); }

}  // namespace veomni::parallel
