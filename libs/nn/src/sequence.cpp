// SPDX-License-Identifier: Apache-2.0
#include "veomni/nn/sequence.h"

namespace veomni::nn {

Sequence make_sequence(const std::vector<int64_t>& lengths, torch::Device device) {
  auto info = std::make_shared<SequenceInfo>();
  int64_t total = 0;
  for (int64_t length : lengths) info->cu_seqlens.push_back(static_cast<int32_t>(total += length));
  auto positions = torch::empty({total}, torch::kLong);
  auto* out = positions.data_ptr<int64_t>();
  for (int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i) *out++ = i;
  }
  info->position_ids = positions.to(device);
  return info;
}

}  // namespace veomni::nn
