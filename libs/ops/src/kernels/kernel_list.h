// SPDX-License-Identifier: Apache-2.0
/// Every kernel, once; each backend and each instruction-set level defines `void run(const Args&)`
/// for all of them.
#pragma once

#include "kernels/args.h"

// clang-format off
#define VEOMNI_OPS_KERNELS(X) \
  X(MatMul) \
  X(GroupedMatMul) \
  X(PackMatrix) \
  X(AddBias) \
  X(ColumnSum) \
  X(GatherRows) \
  X(ScatterAddRows) \
  X(PutRows) \
  X(GatherWindows) \
  X(Convolve) \
  X(ConvolveWeight) \
  X(RmsNormForward) \
  X(RmsNormBackward) \
  X(LayerNormForward) \
  X(LayerNormBackward) \
  X(GroupNormForward) \
  X(GroupNormBackward) \
  X(CenterRows) \
  X(RopeAngles) \
  X(RopeRotate) \
  X(QkNormRopeForward) \
  X(QkNormRopeBackward) \
  X(SwigluForward) \
  X(SwigluBackward) \
  X(ActivationForward) \
  X(ActivationBackward) \
  X(CrossEntropy) \
  X(WeightedSum) \
  X(RepeatPixels) \
  X(SumPixels) \
  X(MeanPairs) \
  X(SpreadPairs) \
  X(NearestCode) \
  X(NormalizeForward) \
  X(NormalizeBackward) \
  X(SumOfSquares) \
  X(ErrorSum) \
  X(ErrorSlope) \
  X(AttentionForward) \
  X(AttentionBackward)
// clang-format on

#define VEOMNI_OPS_DECLARE_RUN(Args) void run(const Args& args);

namespace veomni::ops {

namespace kernels {
VEOMNI_OPS_KERNELS(VEOMNI_OPS_DECLARE_RUN)  // the processor's best level
namespace portable {
VEOMNI_OPS_KERNELS(VEOMNI_OPS_DECLARE_RUN)
}
namespace avx2 {
VEOMNI_OPS_KERNELS(VEOMNI_OPS_DECLARE_RUN)
}
namespace avx512 {
VEOMNI_OPS_KERNELS(VEOMNI_OPS_DECLARE_RUN)
}
}  // namespace kernels

namespace cuda {
using namespace kernels;
VEOMNI_OPS_KERNELS(VEOMNI_OPS_DECLARE_RUN)
}  // namespace cuda

}  // namespace veomni::ops
