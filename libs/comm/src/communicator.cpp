// SPDX-License-Identifier: Apache-2.0
#include "veomni/comm/communicator.h"

namespace veomni {

WorkPtr Communicator::all_gather(torch::Tensor out, torch::Tensor in) {
  return all_gather_coalesced({std::move(out)}, {std::move(in)});
}

WorkPtr Communicator::reduce_scatter(torch::Tensor out, torch::Tensor in, ReduceOp op) {
  return reduce_scatter_coalesced({std::move(out)}, {std::move(in)}, op);
}

torch::Tensor empty_in_window(Communicator& group, torch::IntArrayRef sizes,
                              const torch::TensorOptions& options) {
  auto* allocator = options.device().is_cpu() ? group.window_allocator() : nullptr;
  if (!allocator) return torch::empty(sizes, options);
  const int64_t bytes =
      c10::multiply_integers(sizes) * static_cast<int64_t>(options.dtype().itemsize());
  const c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, allocator, /*resizable=*/true);
  auto tensor = torch::empty({0}, options);
  return tensor.set_(storage, 0, sizes, c10::contiguous_strides(sizes));
}

torch::ScalarType accumulate_dtype(torch::ScalarType dtype) {
  if (dtype == torch::kDouble) return torch::kDouble;
  return torch::isFloatingType(dtype) ? torch::kFloat : torch::kLong;
}

}  // namespace veomni
