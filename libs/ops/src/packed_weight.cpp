// SPDX-License-Identifier: Apache-2.0
#include "veomni/ops/packed_weight.h"

#include <ATen/ATen.h>

#include "kernels/level.h"
#include "launch.h"

namespace veomni::ops {

void PackedWeight::keep(bool on) {
  keeps_ = on;
  if (!on) release();
}

void PackedWeight::release() { kept_ = {}; }

int64_t PackedWeight::bytes() const {
  int64_t bytes = 0;
  for (const Kept& kept : kept_) {
    if (kept.panels.defined()) bytes += kept.panels.numel();
  }
  return bytes;
}

const Tensor& PackedWeight::panels(Side side, const Tensor& weight_ND) {
  Kept& kept = kept_[static_cast<size_t>(side)];
  const int level = static_cast<int>(kernels::level());
  if (kept.panels.defined() && kept.generation == generation_ && kept.level == level)
    return kept.panels;
  const bool forward = side == Side::kForward;
  const int64_t rows = weight_ND.size(0), width = weight_ND.size(1);
  const int64_t n = forward ? rows : width, k = forward ? width : rows;
  const kernels::DType dtype = kernel_dtype(weight_ND, "linear");
  const int64_t bytes = kernels::packed_bytes(dtype, n, k);
  if (!kept.panels.defined() || kept.panels.numel() != bytes ||
      kept.panels.device() != weight_ND.device()) {
    kept.panels = at::empty({bytes}, weight_ND.options().dtype(at::kByte).requires_grad(false));
  }
  kept.generation = generation_;
  kept.level = level;
  launch(weight_ND.device(), kernels::PackMatrix{dtype, n, k, in(weight_ND), forward ? width : 1,
                                                 forward ? 1 : width, out(kept.panels)});
  return kept.panels;
}

}  // namespace veomni::ops
