// SPDX-License-Identifier: Apache-2.0
/// Row numbers and positions that a model works out on the host.
#pragma once

#include <torch/types.h>

#include <cstring>
#include <vector>

namespace veomni::model {

/// An int64 tensor as ops read indices: on the CPU, or on meta where the model's tensors are.
inline torch::Tensor host_index(const std::vector<int64_t>& values, torch::IntArrayRef shape,
                                torch::Device model_device) {
  const auto device = model_device.is_meta() ? model_device : torch::Device(torch::kCPU);
  auto index = torch::empty(shape, torch::dtype(torch::kLong).device(device));
  if (!device.is_meta() && !values.empty())
    std::memcpy(index.data_ptr<int64_t>(), values.data(), values.size() * sizeof(int64_t));
  return index;
}

inline torch::Tensor host_index(const std::vector<int64_t>& values, torch::Device model_device) {
  return host_index(values, {static_cast<int64_t>(values.size())}, model_device);
}

}  // namespace veomni::model
